"""What every peer's one job does. Its effect goes to a ledger that is no peer's: a Redis list."""

import os
from collections.abc import Callable
from functools import cache
from time import sleep, thread_time

from redis import Redis

# Seconds.
BURN = 0.001
NAP = 0.02
DOZE = 0.25
HOLD = 5.0


@cache
def ledger() -> Redis:
    """Return the ledger that BENCH_LEDGER names."""
    return Redis.from_url(os.environ["BENCH_LEDGER"], socket_timeout=None)


def run(kind: str, token: str) -> None:
    """Do a job of `kind`, one of KINDS, and note `token` in the ledger."""
    KINDS[kind](token)
    ledger().rpush("done", token)


def _burn(token: str) -> None:
    end = thread_time() + BURN
    while thread_time() < end:
        pass


def _begin(token: str, then: float = 0) -> None:
    # The session is that of the whole worker, whatever processes it is made of.
    ledger().rpush("begun", f"{token} {os.getsid(0)}")
    sleep(then)


KINDS: dict[str, Callable[[str], object]] = {
    "no-op": lambda token: None,
    "burn": _burn,
    "nap": lambda token: sleep(NAP),
    "begin": _begin,
    "doze": lambda token: _begin(token, DOZE),
    "hold": lambda token: _begin(token, HOLD),
}
