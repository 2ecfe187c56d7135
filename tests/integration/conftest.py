"""The web application on a real Redis and a real database, without a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from penstock.database import Database
from penstock.database.migrate import upgrade
from penstock.database.seed import seed
from penstock.settings import Settings
from penstock_web import create_app

KEY = "key-of-the-tests"


def make_settings(redis_url: str, folder: Path) -> Settings:
    """Return settings that keep all in `folder`; the database is there and has a few rows."""
    database_url = f"sqlite:///{folder}/penstock.db"
    database = Database(database_url)
    upgrade(database)
    seed(database, scale=0.01)
    database.engine.dispose()
    return Settings(
        api_key=KEY,
        broker_url=f"{redis_url}/0",
        results_url=f"{redis_url}/1",
        cache_url=f"{redis_url}/2",
        database_url=database_url,
        files=folder / "files",
        state=folder / "state",
        retry_scale=0,
    )


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings that name the test's own servers."""
    return make_settings(redis_url, tmp_path)


@pytest.fixture(scope="module")
def shared_settings(redis_port: int, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings for processes that all tests of a module use; those must not ask for `redis_url`."""
    Redis(port=redis_port).flushall()
    return make_settings(f"redis://127.0.0.1:{redis_port}", tmp_path_factory.mktemp("shared"))


def client_of(settings: Settings) -> FlaskClient:
    """Return a client that carries the key, of an application with these settings."""
    client = create_app(settings).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {KEY}"
    return client


@pytest.fixture
def make_client(settings: Settings) -> Callable[..., FlaskClient]:
    """Make a client of an application with some settings changed."""

    def make(**changes: Any) -> FlaskClient:
        return client_of(settings.model_copy(update=changes))

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()
