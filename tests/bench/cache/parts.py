"""The measurements of reads; each takes a peer and returns figures by their names."""

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from time import monotonic

from bench.cache.ground import HEADERS, LIST, Ground, get
from bench.cache.load import load
from bench.cache.peers.roster import PENSTOCK, Peer
from bench.processes import BenchError, Worker
from bench.report import Figures

# Idle connections that are held open meanwhile.
IDLE = 1_000


@dataclass(frozen=True)
class Extent:
    """How much is measured: rounds, and seconds of each load."""

    rounds: int
    seconds: int


FULL = Extent(3, 3)
QUICK = Extent(1, 1)


def keep_answer(ground: Ground) -> None:
    """Let Penstock answer once as a hit, and keep that for the peers that serve just it."""
    with ground.server(PENSTOCK) as (_, port):
        _warm(port)
        status, headers, body = get(port, LIST)
    if status != 200 or len(json.loads(body)["items"]) != 50:
        raise BenchError(f"{LIST} answered {status} with {len(body)} bytes, not 50 articles")
    if headers["X-Cache"] != "hit":
        raise BenchError(f"{LIST} was not answered from the cache: {headers.items()}")
    ground.keep_answer(headers, body)


def reads(ground: Ground, peer: Peer, extent: Extent) -> Figures:
    """Measure hits, hits that the client has already (304), and misses."""
    ground.redis.flushall()
    with ground.server(peer) as (worker, port):
        url = f"http://127.0.0.1:{port}{LIST}"
        figures = _hits(ground, worker, port, extent)
        if peer.not_modified:
            tag = get(port, LIST)[1]["ETag"]
            conditional = load(url, extent.seconds, {**HEADERS, "If-None-Match": tag})
            figures |= {"304 /s": conditional.rate, "304 p99 ms": conditional.p99}
        if peer.misses:
            figures |= _misses(ground, worker, port, extent)
        return figures


def classes(ground: Ground, peer: Peer, extent: Extent) -> Figures:
    """Measure hits and misses, alone and beside idle connections that are kept alive."""
    ground.redis.flushall()
    with ground.server(peer) as (worker, port):
        figures = _hits(ground, worker, port, extent)
        figures |= _misses(ground, worker, port, extent)
        with _idle_connections(port) as answered:
            figures["idle answered"] = answered
            beside = _hits(ground, worker, port, extent) | _misses(
                ground, worker, port, extent, pages_from=5_000
            )
        return figures | {f"{name}, {IDLE:,} idle": value for name, value in beside.items()}


def _hits(ground: Ground, worker: Worker, port: int, extent: Extent) -> Figures:
    _warm(port)
    url = f"http://127.0.0.1:{port}{LIST}"
    load(url, 1, HEADERS)
    before = _cpu(ground, worker)
    hits = load(url, extent.seconds, HEADERS)
    used = _cpu(ground, worker) - before
    return {
        "hit /s": hits.rate,
        "hit p50 ms": hits.p50,
        "hit p99 ms": hits.p99,
        "CPU us/hit": 1e6 * used / hits.requests,
    }


def _misses(
    ground: Ground, worker: Worker, port: int, extent: Extent, pages_from: int = 0
) -> Figures:
    before = _cpu(ground, worker)
    misses = load(f"http://127.0.0.1:{port}", extent.seconds, HEADERS, pages_from)
    used = _cpu(ground, worker) - before
    if misses.requests > 5_000:
        raise BenchError("so fast that pages came twice: these are no misses")
    return {
        "miss /s": misses.rate,
        "miss p50 ms": misses.p50,
        "miss p99 ms": misses.p99,
        "CPU us/miss": 1e6 * used / misses.requests,
    }


def _warm(port: int) -> None:
    """Ask until every process has the list: which of them answers is for the system to choose."""
    for _ in range(20):
        status, _, _ = get(port, LIST)
        if status != 200:
            raise BenchError(f"{LIST} was answered with {status}")


def _cpu(ground: Ground, worker: Worker) -> float:
    return worker.use().cpu + ground.redis_process.use().cpu


@contextmanager
def _idle_connections(port: int) -> Iterator[int]:
    """Hold connections that were used once and are kept alive; yield how many were answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * IDLE)), hard))
    lines = [f"GET {LIST} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    request = "\r\n".join([*lines, "", ""]).encode()
    with ExitStack() as stack:
        answered, deadline = 0, monotonic() + 20
        for _ in range(IDLE):
            connection = stack.enter_context(
                closing(socket.create_connection(("127.0.0.1", port), 5))
            )
            connection.sendall(request)
            connection.settimeout(max(0.01, min(2, deadline - monotonic())))
            try:
                answered += connection.recv(65536).startswith(b"HTTP/1.1 200")
            except TimeoutError:
                continue
        yield answered
