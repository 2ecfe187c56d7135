"""A client of one peer, in a process of its own."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from inspect import isawaitable
from multiprocessing import get_context
from time import perf_counter, sleep
from typing import Any, Self

from bench.queue import jobs

# Seconds between two jobs of an idle system.
IDLE = 0.3


class Client:
    """Sends jobs from a process that has imported nothing but the peer."""

    def __init__(self, module: str, environment: dict[str, str]) -> None:
        self._process = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_begin, initargs=(module, environment)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown(cancel_futures=True)

    def send(self, kind: str, tokens: Sequence[str]) -> list[float]:
        """Queue a job for each token; return how many seconds each call took."""
        return self._process.submit(_send, kind, tokens).result()

    def round_trips(self, count: int) -> list[float]:
        """Return the seconds from sending a no-op to its effect, on an idle system."""
        return self._process.submit(_round_trips, count).result()


# The client process's own.
_peer: Any
_loop: asyncio.AbstractEventLoop


def _begin(module: str, environment: dict[str, str]) -> None:
    global _peer, _loop
    os.environ.update(environment)
    _peer = import_module(module)
    _loop = asyncio.new_event_loop()


def _send(kind: str, tokens: Sequence[str]) -> list[float]:
    return _loop.run_until_complete(_send_each(kind, tokens))


async def _send_each(kind: str, tokens: Iterable[str]) -> list[float]:
    took = []
    for token in tokens:
        began = perf_counter()
        sent = _peer.send(kind, token)
        if isawaitable(sent):
            await sent
        took.append(perf_counter() - began)
    return took


def _round_trips(count: int) -> list[float]:
    took = []
    for number in range(count):
        sleep(IDLE)
        jobs.ledger().delete("done")
        began = perf_counter()
        _send("no-op", [f"trip-{number}"])
        if jobs.ledger().blpop(["done"], timeout=30) is None:
            raise TimeoutError("a job on an idle system had no effect within 30 s")
        took.append(perf_counter() - began)
    return took
