"""The computation that everyone wants at once."""

import os
from collections.abc import Callable
from functools import cache

from redis import Redis

# Seconds that it takes, and for which its outcome is fresh.
COMPUTATION = 0.5
LIFETIME = 2


@cache
def ledger() -> Redis:
    """Return where computations are counted."""
    return Redis.from_url(os.environ["BENCH_LEDGER"])


def computed(sleep: Callable[[float], object]) -> str:
    """Compute, and count it."""
    ledger().incr("computations")
    sleep(COMPUTATION)
    return "x" * 1_000
