"""What part of a trace's reads a real Redis server answers that evicts by a policy of its own.

Redis counts the time since an entry's last use in whole seconds (`LRU_CLOCK_RESOLUTION` in its
server.h). A trace that is read as fast as it answers takes a second or two; all entries are then of
the same age, and allkeys-lru is a lottery. So reads come at a pace, to many servers at once.

Redis limits bytes and not entries, and counts more than the values. So that it can be compared with
a cache of so many entries, `maxmemory` is set to where that many stay under the same traffic, and
how many were there during the replay is measured as well.
"""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from time import monotonic, sleep
from typing import Self

from bench.policies.traces import SEED, Trace
from bench.processes import free_port
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from penstock_dev.redis_server import find_redis_server

POLICIES = ("allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl")
VALUE_BYTES = 1_000
# Seconds that an entry lives: longer than a replay, and not the same for all, as in the cache.
TTL, JITTER = 900, 0.1
# Seconds between two handfuls of reads.
TICK = 0.1

# One read: was it there? If not, it is kept, as a cache does after a miss.
READ = """
if redis.call('GET', KEYS[1]) then return 1 end
redis.call('SET', KEYS[1], string.rep('x', ARGV[1]), 'PX', ARGV[2])
return 0
"""


@dataclass(frozen=True)
class Outcome:
    """The hit ratio, how many entries a full cache held on average, and its `maxmemory`."""

    ratio: float
    held: float
    maxmemory: int


class Evicting:
    """A Redis server of its own, in which about so many entries stay under the policy."""

    def __init__(self, policy: str, entries: int, folder: Path) -> None:
        self.entries = entries
        port = free_port()
        options = {"port": port, "bind": "127.0.0.1", "save": "", "maxmemory-policy": policy}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [find_redis_server(), *words], cwd=folder, stdout=subprocess.DEVNULL
        )
        self._client = Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200))
        self._jitter = Random(SEED)

    def __enter__(self) -> Self:
        try:
            self._sha = self._client.script_load(READ)
            self.maxmemory = self._calibrate()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()

    def read(self, keys: Sequence[int]) -> tuple[int, int]:
        """Read these, keep those that were missing; return the hits and how many are kept now."""
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                ttl = TTL * (1 + JITTER * self._jitter.uniform(-1, 1))
                pipe.evalsha(self._sha, 1, str(key), str(VALUE_BYTES), str(int(ttl * 1000)))
            pipe.dbsize()
            *hits, held = pipe.execute()
        return sum(hits), held

    def _calibrate(self) -> int:
        """Set `maxmemory` to where `entries` stay, empty the server, and return it in bytes."""
        new = iter(range(10**9, 2 * 10**9))

        def fill(count: int) -> float:
            held = [self.read([next(new) for _ in range(25)])[1] for _ in range(-(-count // 25))]
            return fmean(held[len(held) // 2 :])

        empty = self._used()
        fill(self.entries)
        limit = self._used()
        each = (limit - empty) / self.entries
        for _ in range(5):
            self._client.config_set("maxmemory", limit)
            off = fill(2 * self.entries) - self.entries
            if abs(off) <= 0.005 * self.entries:
                break
            limit -= round(off * each)
        self._client.flushall()
        return limit

    def _used(self) -> int:
        used: int = self._client.info("memory")["used_memory"]
        return used


@dataclass(frozen=True)
class Replay:
    """A trace to be read from a server of its own with this policy."""

    policy: str
    entries: int
    trace: Trace


def replay(replays: Sequence[Replay], pace: float, folder: Path) -> list[Outcome]:
    """Read all the traces at once, each at `pace` reads a second; return what came of each."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Evicting(it.policy, it.entries, folder)) for it in replays]
        hits = [0 for _ in replays]
        held: list[list[int]] = [[] for _ in replays]
        handful = max(1, round(pace * TICK))
        began = monotonic()
        for start in range(0, max(len(it.trace) for it in replays), handful):
            sleep(max(0.0, began + start / pace - monotonic()))
            for number, (it, server) in enumerate(zip(replays, servers, strict=True)):
                if reads := it.trace[start : start + handful]:
                    more, now = server.read(reads)
                    hits[number] += more
                    held[number].append(now)
        return [
            Outcome(count / len(it.trace), fmean(of[len(of) // 2 :]), server.maxmemory)
            for it, server, count, of in zip(replays, servers, hits, held, strict=True)
        ]
