"""How a worker stops: running jobs get a time, and what is left after it goes back to the queue.

Celery's warm shutdown waits for running jobs without a limit, until the container is killed, and
then each of them counts as a job that lost its worker.
"""

import os
import signal
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import structlog
from celery.worker import state

from penstock import transport

logger = structlog.get_logger(__name__)


class Drain:
    """Ends a worker that was told to stop when `grace` seconds are over and jobs still run."""

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
        if self._ended.wait(self.grace):
            return
        logger.warning(
            "the grace is over; running jobs go back to their queue",
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


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
