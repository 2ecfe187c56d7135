"""The measurements; each takes a peer on its own servers and returns figures by their names."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import quantiles
from time import monotonic, sleep
from typing import Any, cast
from uuid import UUID

from bench.processes import START_LIMIT, BenchError, Worker
from bench.queue.ground import Ground
from bench.queue.peers.roster import PENSTOCK, Peer
from bench.report import Figures
from redis import Redis

MB = 1024 * 1024
# Seconds after which a job that has not come back counts as not coming.
PATIENCE = 40.0
# Jobs done before a throughput is measured, when the worker has warmed up.
WARM = 100
# How much is put into the broker in one round trip.
PIPELINE = 2000
# The list that Celery's default queue is.
QUEUE = "celery"


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    rounds: int
    # Seconds of a throughput.
    window: float
    trips: int
    jobs_at_risk: int
    kills: int
    backlogs: tuple[int, ...]


FULL = Extent(3, 2, 20, 1000, 5, (1_000, 1_000_000))
QUICK = Extent(1, 1.5, 8, 200, 2, (1_000, 100_000))


def speed(ground: Ground, extent: Extent) -> Figures:
    """Measure enqueueing, and what a worker then does and uses."""
    figures: Figures = {}
    jobs = WARM + int(ground.peer.rate * extent.window)
    for kind in ("no-op", "burn"):
        ground.clear()
        took = ground.client.send(kind, [str(number) for number in range(jobs)])
        if kind == "no-op":
            figures |= _enqueued("enqueue", took)
        with ground.worker() as worker:
            if not _reached(ground, worker, WARM):
                raise BenchError(f"{ground.peer.name}: no job was done; see {ground.folder}")
            before, done, began = worker.use(), ground.done(), monotonic()
            while (elapsed := monotonic() - began) < extent.window and ground.done() < jobs:
                sleep(0.005)
            now_done, after = ground.done(), worker.use()
        figures[f"{kind} jobs/s"] = (now_done - done) / elapsed
        if kind == "no-op":
            figures["CPU us/no-op"] = 1e6 * (after.cpu - before.cpu) / (now_done - done)
            figures["RSS MB"], figures["PSS MB"] = after.rss / MB, after.pss / MB
    return figures


def latency(ground: Ground, extent: Extent) -> Figures:
    """Measure the time from sending a job to its effect, on an idle system."""
    ground.clear()
    with ground.worker() as worker:
        ground.ready(worker)
        took = ground.client.round_trips(extent.trips)
    p50, p99 = _p50_p99(took)
    return {"latency p50 ms": 1e3 * p50, "latency p99 ms": 1e3 * p99}


def recovery(ground: Ground, extent: Extent) -> Figures:
    """Kill the worker that runs a job while another one is idle."""
    ground.clear()
    with ground.worker() as one, ground.worker() as other:
        ground.ready(one, other)
        ground.client.send("hold", ["hold"])
        return {"recovery s": _killed_and_back(ground, [one, other])}


def kills(ground: Ground, extent: Extent) -> Figures:
    """Kill and restart the worker while it does jobs; see which are missing and which were doubled.

    What is missing and nowhere in the broker is lost; the others are late, or wait for somebody.
    """
    ground.clear()
    jobs = extent.jobs_at_risk
    tokens = {f"risk-{number:06}" for number in range(jobs)}
    ground.client.send("nap", sorted(tokens))
    for kill in range(extent.kills):
        with ground.worker() as worker:
            # Where all that is left has gone with the worker before, nothing more is done.
            _reached(ground, worker, jobs * (kill + 1) // (extent.kills + 2))
    with ground.worker() as worker:
        _until_still(ground, worker, tokens)
    times = Counter(ground.effects())
    missing = tokens - times.keys()
    kept = _kept(ground.broker, missing)
    return {
        "lost": len(missing) - kept,
        "late": kept,
        "doubled": sum(count > 1 for count in times.values()),
    }


def backlog(ground: Ground, extent: Extent) -> Figures:
    """Measure enqueueing and recovery while many jobs wait."""
    figures: Figures = {}
    for waiting in extent.backlogs:
        ground.clear()
        _fill(ground, waiting)
        took = ground.client.send("doze", [f"late-{number}" for number in range(1000)])
        figures |= _enqueued(f"enqueue at {waiting:,}", took)
        with ground.worker() as one, ground.worker() as other:
            ground.ready(one, other, probe=False)
            ground.client.send("hold", ["hold"])
            # First in line, so that what is measured is not the wait for all the others.
            ground.broker.lmove(QUEUE, QUEUE, "LEFT", "RIGHT")
            figures[f"recovery at {waiting:,} s"] = _killed_and_back(ground, [one, other])
    ground.clear()
    return figures


def _enqueued(name: str, took: list[float]) -> Figures:
    p50, p99 = _p50_p99(took)
    return {
        f"{name} /s": len(took) / sum(took),
        f"{name} p50 us": 1e6 * p50,
        f"{name} p99 us": 1e6 * p99,
    }


def _p50_p99(took: list[float]) -> tuple[float, float]:
    cuts = quantiles(took, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _reached(ground: Ground, worker: Worker, jobs: int) -> bool:
    """Return whether so many jobs are done, when they are or nothing has happened for long."""
    for _ in _news(ground):
        worker.check()
        if ground.done() >= jobs:
            return True
    return False


def _until_still(ground: Ground, worker: Worker, tokens: set[str]) -> None:
    """Return when every token has had its effect, or nothing has happened for a long time."""
    for _ in _news(ground):
        worker.check()
        if ground.done() >= len(tokens) and tokens <= set(ground.effects()):
            return


def _news(ground: Ground) -> Iterator[None]:
    """Yield now and then, until no job has been done for as long as patience lasts."""
    done, heard = -1, monotonic()
    while monotonic() - heard < PATIENCE:
        if (now_done := ground.done()) != done:
            done, heard = now_done, monotonic()
        yield
        sleep(0.01)


def _killed_and_back(ground: Ground, workers: list[Worker]) -> float | None:
    """Kill the worker that runs `hold`; return the seconds until it runs elsewhere, if it does."""
    session = ground.begun("hold", START_LIMIT)
    killed_at = monotonic()
    next(worker for worker in workers if worker.session == session).kill()
    try:
        ground.begun("hold", PATIENCE)
    except TimeoutError:
        return None
    return monotonic() - killed_at


def _fill(ground: Ground, jobs: int) -> None:
    """Put so many jobs into the queue, made of one that was sent, each with an id of its own."""
    ground.client.send("doze", ["waiting"])
    message = cast("bytes", ground.broker.rpop(QUEUE))
    job_id = json.loads(message)["headers"]["id"].encode()
    for start in range(0, jobs, PIPELINE):
        with ground.broker.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + PIPELINE, jobs)):
                pipe.lpush(QUEUE, message.replace(job_id, str(UUID(int=number)).encode()))
            pipe.execute()


def _kept(broker: Redis, tokens: set[str]) -> int:
    """Return how many of the tokens are somewhere in the broker, whatever the peer calls it."""
    everything = b"".join(_value(broker, key) for key in broker.scan_iter(count=1000))
    return sum(token.encode() in everything for token in tokens)


def _value(broker: Redis, key: bytes) -> bytes:
    name = cast("str", key)
    read: dict[bytes, Callable[[], Any]] = {
        b"string": lambda: [broker.get(name)],
        b"list": lambda: broker.lrange(name, 0, -1),
        b"set": lambda: broker.smembers(name),
        b"zset": lambda: broker.zrange(name, 0, -1),
        b"hash": lambda: broker.hgetall(name).values(),
        b"stream": lambda: [str(broker.xrange(name)).encode()],
    }
    return b"\n".join(read[cast("bytes", broker.type(name))]())


@dataclass(frozen=True)
class Part:
    """A measurement; `together` is for those where waiting takes the time, of all peers at once.

    What takes long is measured in the first round only.
    """

    measure: Callable[[Ground, Extent], Figures]
    together: bool = False
    once: bool = False
    only: Peer | None = None


PARTS = {
    "speed": Part(speed),
    "latency": Part(latency, once=True),
    "recovery": Part(recovery, together=True, once=True),
    "kills": Part(kills, together=True, once=True),
    "backlog": Part(backlog, once=True, only=PENSTOCK),
}
