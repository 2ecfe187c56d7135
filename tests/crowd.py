"""Many clients at once before two servers of `slow_app`, and what is asked of its cache then."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import requests
from redis import Redis

CLIENTS = 64
# As through a load balancer: the host is a part of the key, and with it the port.
HOST = {"Host": "api.example"}


def answers(url: str) -> bool:
    """Return whether a server answers."""
    try:
        return requests.get(f"{url}/none", headers=HOST, timeout=5).status_code == 404
    except requests.RequestException:
        return False


def together(urls: list[str], path: str) -> list[requests.Response]:
    """Ask for a path by all clients at once, in turn of the one server and the other."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(
            clients.map(
                lambda n: requests.get(urls[n % len(urls)] + path, headers=HOST, timeout=30),
                range(CLIENTS),
            )
        )


def check_a_cold_key_is_computed_once(urls: list[str], runs: Redis, path: str) -> None:
    """Ask for `path`, which ends in `cold`, by all clients."""
    began = monotonic()
    answers = together(urls, path)
    print(f"\n{path}: {CLIENTS} answers within {monotonic() - began:.2f} s")

    assert {answer.json()["number"] for answer in answers} == {1}
    assert runs.get("runs:cold") == b"1"


def check_an_expiry_is_one_computation_and_nobody_waits(urls: list[str], runs: Redis) -> None:
    """Read under load until it has expired three times."""
    together(urls, "/slow/load")
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
