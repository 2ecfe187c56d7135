"""The web application on a real Redis and a real database, without a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from penstock.database import Database
from penstock.database.migrate import upgrade
from penstock.database.seed import seed
from penstock.settings import Settings
from penstock_web import create_app

KEY = "key-of-the-tests"


@pytest.fixture
def settings(redis_url: str, sqlite_url: str, tmp_path: Path) -> Settings:
    """Settings that name the test's own servers; the database is there and has a few rows."""
    database = Database(sqlite_url)
    upgrade(database)
    seed(database, scale=0.01)
    database.engine.dispose()
    return Settings(
        api_key=KEY,
        broker_url=f"{redis_url}/0",
        results_url=f"{redis_url}/1",
        cache_url=f"{redis_url}/2",
        database_url=sqlite_url,
        files=tmp_path / "files",
        state=tmp_path / "state",
        retry_scale=0,
    )


@pytest.fixture
def make_client(settings: Settings) -> Callable[..., FlaskClient]:
    """Make a client that carries the key, of an application with some settings changed."""

    def make(**changes: Any) -> FlaskClient:
        client = create_app(settings.model_copy(update=changes)).test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {KEY}"
        return client

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()
