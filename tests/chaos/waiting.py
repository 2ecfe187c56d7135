"""Waiting, always with a limit, and no longer than the harness goes on."""

from collections.abc import Callable
from threading import Event
from time import monotonic

POLL = 0.05

# Set when the harness is told to stop.
stopping = Event()


class StoppedError(Exception):
    """The harness was told to stop."""


class DeadlineError(Exception):
    """Something did not happen in time; the text says what."""


def pause(seconds: float) -> None:
    """Wait; raises StoppedError when the harness is told to stop."""
    if stopping.wait(max(0.0, seconds)):
        raise StoppedError


def until(holds: Callable[[], object], what: str, limit: float, *, poll: float = POLL) -> None:
    """Return when this holds; raises DeadlineError with `what` after `limit` seconds."""
    deadline = monotonic() + limit
    while not holds():
        if monotonic() > deadline:
            raise DeadlineError(f"not within {limit:g} s: {what}")
        pause(poll)
