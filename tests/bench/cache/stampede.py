"""Many clients want what takes long to compute, on two servers of two processes each."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from time import monotonic, sleep

from bench.cache.ground import HEADERS, Ground
from bench.cache.peers.roster import Peer
from bench.cache.peers.stampede import COMPUTATION, LIFETIME
from bench.processes import BenchError
from bench.report import Figures

CLIENTS = 64
SERVERS = 2
EXPIRIES = 3
# Seconds after which an answer was waited for and not at hand.
SLOW = COMPUTATION / 2
# Seconds between two requests of a client, and how long all go on asking after the first answer.
PAUSE = 0.05
UNDER_LOAD = EXPIRIES * (LIFETIME + COMPUTATION) + PAUSE

# One name for both servers, as behind a load balancer: keys hold the host.
_HEADERS = {**HEADERS, "Host": "penstock.example"}


def stampede(ground: Ground, peer: Peer) -> Figures:
    """Count computations and slow answers: of a cold key, and while it expires three times."""
    ground.redis.flushall()
    ground.ledger.delete("computations")
    with ExitStack() as stack:
        ports = [stack.enter_context(ground.server(peer))[1] for _ in range(SERVERS)]
        cold, warm = Barrier(CLIENTS), Barrier(CLIENTS)
        counted: list[int] = []

        def client(number: int) -> tuple[float, list[float]]:
            connection = http.client.HTTPConnection("127.0.0.1", ports[number % SERVERS])
            connection.connect()
            cold.wait()
            first = _ask(connection)
            warm.wait()
            if number == 0:
                counted.append(_computations(ground))
            began, others = monotonic(), []
            while monotonic() - began < UNDER_LOAD:
                sleep(PAUSE)
                others.append(_ask(connection))
            connection.close()
            return first, others

        with ThreadPoolExecutor(CLIENTS) as pool:
            took = list(pool.map(client, range(CLIENTS)))
    later = [second for _, others in took for second in others]
    return {
        "computations, cold": counted[0],
        "longest wait, cold ms": 1e3 * max(first for first, _ in took),
        "computations, 3 expiries": _computations(ground) - counted[0],
        "slow waits": sum(second > SLOW for second in later),
        "longest wait, 3 expiries ms": 1e3 * max(later),
    }


def _ask(connection: http.client.HTTPConnection) -> float:
    began = monotonic()
    connection.request("GET", "/slow", headers=_HEADERS)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise BenchError(f"/slow was answered with {answer.status}")
    return monotonic() - began


def _computations(ground: Ground) -> int:
    return int(ground.ledger.get("computations") or 0)
