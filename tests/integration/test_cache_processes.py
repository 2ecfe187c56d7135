"""One computation for everybody who asks, over processes and servers: Gunicorns on one Redis."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import requests
from processes import Running, environment, free_port
from redis import Redis

CLIENTS = 64
# As through a load balancer: the host is a part of the key, and with it the port.
HOST = {"Host": "api.example"}
COMPUTATION = 0.5
APP = f"""
import os, time
from flask import Flask
from redis import Redis
from penstock.cache import Cache, everyone

runs = Redis.from_url(os.environ["REDIS"] + "/1")
app = Flask(__name__)
cache = Cache()
cache.init_app(
    app,
    {{
        "CACHE_TYPE": "TieredCache",
        "CACHE_REDIS_URL": os.environ["REDIS"] + "/0",
        "CACHE_KEY_PREFIX": "test:",
        # Sixteen threads on a busy machine may keep an answer waiting.
        "CACHE_BUDGET": 5,
    }},
    guard=everyone,
)

@app.get("/slow/<name>")
@cache.cached(timeout=1.5, stale=60, tags=["slow"])
def slow(name):
    number = runs.incr(f"runs:{{name}}")
    time.sleep({COMPUTATION})
    return {{"number": number, "process": os.getpid()}}

@app.get("/memo/<name>")
def memo(name):
    return {{"number": number_of(name)}}

@cache.memoize(60)
def number_of(name):
    number = runs.incr(f"runs:{{name}}")
    time.sleep({COMPUTATION})
    return number

@app.post("/drop")
def drop():
    cache.drop_tags("slow")
    return ""
"""


@pytest.fixture
def urls(redis_url: str, tmp_path: Path) -> Iterator[list[str]]:
    """Two servers of two processes each, as in two containers."""
    (tmp_path / "slow_app.py").write_text(APP)
    servers, urls = [], []
    for place in ("one", "other"):
        port = free_port()
        (tmp_path / place).mkdir()
        env = {**environment(), "REDIS": redis_url, "PYTHONPATH": str(tmp_path)}
        command = (
            *("gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "32"),
            *("--worker-class", "gthread", "--no-control-socket", "slow_app:app"),
        )
        servers.append(Running(*command, env=env, log=tmp_path / place / "web.log"))
        urls.append(f"http://127.0.0.1:{port}")
    try:
        for server, url in zip(servers, urls, strict=True):
            server.until(lambda url=url: _answers(url), "it answers")  # type: ignore[misc]
        yield urls
    finally:
        for server in servers:
            server.__exit__()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/none", headers=HOST, timeout=5).status_code == 404
    except requests.RequestException:
        return False


def _text(value: Any) -> str:
    assert isinstance(value, bytes)
    return value.decode()


def _together(urls: list[str], path: str) -> list[requests.Response]:
    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(
            clients.map(
                lambda n: requests.get(urls[n % len(urls)] + path, headers=HOST, timeout=30),
                range(CLIENTS),
            )
        )


@pytest.mark.parametrize("path", ["/slow/cold", "/memo/cold"])
def test_a_cold_key_is_computed_once_for_64_clients_of_four_processes(
    urls: list[str], redis_url: str, path: str
) -> None:
    began = monotonic()
    answers = _together(urls, path)
    print(f"\n{path}: {CLIENTS} answers within {monotonic() - began:.2f} s")

    assert {answer.json()["number"] for answer in answers} == {1}
    assert Redis.from_url(f"{redis_url}/1").get("runs:cold") == b"1"


def test_an_expiry_under_load_is_one_computation_and_nobody_waits(
    urls: list[str], redis_url: str
) -> None:
    runs = Redis.from_url(f"{redis_url}/1")
    _together(urls, "/slow/load")
    seen: Counter[str] = Counter()
    slowest = 0.0
    with ThreadPoolExecutor(8) as clients:
        sessions = [requests.Session() for _ in range(8)]

        def load(n: int) -> list[tuple[str, float]]:
            answers = []
            # Until each process has served the fourth computation, three expiries after the first.
            while int(runs.get("runs:load") or 0) < 4:
                answer = sessions[n].get(f"{urls[n % 2]}/slow/load", headers=HOST, timeout=30)
                assert answer.status_code == 200
                answers.append((answer.headers["X-Cache"], answer.elapsed.total_seconds()))
                sleep(0.01)
            return answers

        for answers in clients.map(load, range(8)):
            seen.update(outcome for outcome, _ in answers)
            slowest = max([slowest, *(took for _, took in answers)])
    print(f"\n{sum(seen.values())} reads over 3 expiries: {dict(seen)}, slowest {slowest:.3f} s")

    assert int(runs.get("runs:load") or 0) == 4
    assert seen["stale"] > 0
    assert seen["miss"] == seen["bypass"] == 0


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
    numbers = {json.dumps(answer.json()) for answer in _together(urls, "/slow/drop")}
    assert len(numbers) == 1
    requests.post(f"{urls[0]}/drop", headers=HOST, timeout=30)
    sleep(1)
    assert {answer.json()["number"] for answer in _together(urls, "/slow/drop")} == {2}
