"""One computation for everybody who asks, over processes and servers: Gunicorns on one Redis."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import crowd
import pytest
import requests
from crowd import HOST, together
from processes import Running, environment, free_port
from redis import Redis

TESTS = Path(__file__).parents[1]


@pytest.fixture
def urls(redis_url: str, tmp_path: Path) -> Iterator[list[str]]:
    """Two servers of two processes each, as in two containers."""
    servers, urls = [], []
    for place in ("one", "other"):
        port = free_port()
        (tmp_path / place).mkdir()
        env = {**environment(), "REDIS": redis_url, "PYTHONPATH": str(TESTS)}
        command = (
            *("gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "32"),
            *("--worker-class", "gthread", "--no-control-socket", "slow_app:app"),
        )
        servers.append(Running(*command, env=env, log=tmp_path / place / "web.log"))
        urls.append(f"http://127.0.0.1:{port}")
    try:
        for server, url in zip(servers, urls, strict=True):
            server.until(lambda url=url: crowd.answers(url), "it answers")  # type: ignore[misc]
        yield urls
    finally:
        for server in servers:
            server.__exit__()


def _text(value: Any) -> str:
    assert isinstance(value, bytes)
    return value.decode()


@pytest.mark.parametrize("path", ["/slow/cold", "/memo/cold"])
def test_a_cold_key_is_computed_once_for_64_clients_of_four_processes(
    urls: list[str], redis_url: str, path: str
) -> None:
    runs = Redis.from_url(f"{redis_url}/1")
    crowd.check_a_cold_key_is_computed_once(urls, runs, path)


def test_an_expiry_under_load_is_one_computation_and_nobody_waits(
    urls: list[str], redis_url: str
) -> None:
    runs = Redis.from_url(f"{redis_url}/1")
    crowd.check_an_expiry_is_one_computation_and_nobody_waits(urls, runs)


def test_a_holder_that_is_killed_does_not_keep_others_waiting_for_long(
    urls: list[str], redis_url: str
) -> None:
    process = requests.get(f"{urls[0]}/slow/who", headers=HOST, timeout=30).json()["process"]
    redis: Redis = Redis.from_url(f"{redis_url}/0")
    # As a process leaves it that is killed while it computes.
    [entry] = map(_text, redis.scan_iter("test:entry:/slow/who*"))
    [tag] = redis.scan_iter("test:tag:*")
    redis.delete(entry)
    lock = entry.replace("test:entry:", "test:lock:")
    redis.set(lock, f"token {_text(redis.get(tag))}", px=3000)
    os.kill(process, signal.SIGKILL)

    began = monotonic()
    answer = requests.get(f"{urls[1]}/slow/who", headers=HOST, timeout=30)
    assert answer.json()["number"] == 2
    print(f"\nthe next holder computed after {monotonic() - began:.2f} s")


def test_what_one_server_drops_is_dropped_in_the_other(urls: list[str]) -> None:
    numbers = {json.dumps(answer.json()) for answer in together(urls, "/slow/drop")}
    assert len(numbers) == 1
    requests.post(f"{urls[0]}/drop", headers=HOST, timeout=30)
    sleep(1)
    assert {answer.json()["number"] for answer in together(urls, "/slow/drop")} == {2}
