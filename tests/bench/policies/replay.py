"""What part of a trace's reads a cache in this process answers: this project's, and the optimum."""

from heapq import heappop, heappush
from math import inf
from random import Random

from bench.policies.traces import SEED, Trace

from penstock.cache.policies import Policy, bounded


def ours(policy: Policy, trace: Trace, entries: int) -> float:
    """Return the hit ratio of the tier in the process; what was not there is kept."""
    cache = bounded(policy, entries=entries, choice=Random(SEED).choice)
    hits = 0
    for key in trace:
        if key in cache:
            hits += 1
            cache[key]
        else:
            cache[key] = key
    return hits / len(trace)


def belady(trace: Trace, entries: int) -> float:
    """Return the hit ratio of a cache that knows what comes: what is needed last goes first.

    No policy that keeps whatever it has just read does better (Belady, "A study of replacement
    algorithms for a virtual-storage computer", IBM Systems Journal 5 (2), 1966).
    """
    # When each read's thing is read the next time.
    after: list[float] = [inf] * len(trace)
    last: dict[int, int] = {}
    for position in range(len(trace) - 1, -1, -1):
        after[position] = last.get(trace[position], inf)
        last[trace[position]] = position

    kept: dict[int, float] = {}
    # The furthest next read first; what `kept` has another number for has been read since.
    furthest: list[tuple[float, int]] = []
    hits = 0
    for position, key in enumerate(trace):
        if key in kept:
            hits += 1
        elif len(kept) == entries:
            while True:
                need, candidate = heappop(furthest)
                if kept.get(candidate) == -need:
                    del kept[candidate]
                    break
        kept[key] = after[position]
        heappush(furthest, (-after[position], key))
    return hits / len(trace)
