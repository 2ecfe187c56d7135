"""The server configurations, each read by a real server."""

import subprocess
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from penstock_dev.redis_server import find_redis_server

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("role", "policy", "append_only"),
    [
        ("broker", "noeviction", "yes"),
        ("results", "volatile-ttl", "yes"),
        ("cache", "allkeys-lfu", "no"),
        ("files", "noeviction", "yes"),
    ],
)
def test_a_server_takes_on_its_role(
    role: str,
    policy: str,
    append_only: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A socket's path must be short, and so is relative.
    monkeypatch.chdir(tmp_path)
    file = ROOT / "services" / "redis" / f"{role}.conf"
    server = subprocess.Popen(
        [find_redis_server(), file, "--port", "0", "--unixsocket", "redis.sock", "--dir", "."],
        stdout=subprocess.DEVNULL,
    )
    try:
        client = Redis(unix_socket_path="redis.sock", retry=Retry(ConstantBackoff(0.05), 100))
        config = client.config_get()
    finally:
        server.terminate()
        server.wait(10)
    assert config["maxmemory-policy"] == policy
    assert config["appendonly"] == append_only
    assert config["appendfsync"] == "everysec"
    assert config["save"] == ""
    # Without a limit the policy would never come into force.
    assert int(config["maxmemory"] or 0) > 0
