"""How a worker stops: running jobs get a time, and what is left after it goes back to the queue.

Celery's warm shutdown waits for running jobs without a limit, until the container is killed, and
then each of them counts as a job that lost its worker.
"""

import os
import signal
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from typing import Any

import structlog
from celery.worker import state

from penstock import transport

logger = structlog.get_logger(__name__)

# Seconds that a worker which has nothing to do gets for its end. Celery can wait without a limit
# there, as for a broker that was stopped at the same time.
IDLE = 5.0
# Seconds between two looks at whether it has something to do.
LOOK = 0.5


class Drain:
    """Ends a worker that was told to stop and has not: when `grace` seconds are over, or idle."""

    def __init__(self, worker: Any, grace: float) -> None:
        self.worker = worker
        self.grace = grace
        self._ended = Event()
        self._thread = Thread(target=self._wait, name="penstock-drain", daemon=True)

    def begin(self) -> None:
        """Begin to count; called by the signal that tells the worker to stop."""
        if not self._thread.is_alive() and not self._ended.is_set():
            self._thread.start()

    def end(self) -> None:
        """Say that the worker has stopped by itself."""
        self._ended.set()

    def _wait(self) -> None:
        now = last_busy = monotonic()
        over = now + self.grace
        while now < over and now < last_busy + IDLE:
            if self._ended.wait(min(LOOK, over - now)):
                return
            now = monotonic()
            if _busy():
                last_busy = now
        logger.warning(
            "the worker has not ended by itself; what it still has goes back to its queue",
            grace=self.grace,
            jobs=len(state.active_requests),
        )
        # First no process that could still act on a job, then the jobs for others to take.
        for process in getattr(getattr(self.worker.pool, "_pool", None), "_pool", None) or ():
            _kill(process.pid)
        for custody in transport.custodies():
            custody.close()
        # Not sys.exit, which ends this thread alone and waits for those that run jobs.
        os._exit(0)


def _busy() -> bool:
    """Return whether a job runs, or the broker has yet to hear of one that this worker had."""
    return bool(state.active_requests) or any(custody.holds for custody in transport.custodies())


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
