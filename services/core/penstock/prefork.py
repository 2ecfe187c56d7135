"""Celery's pool of processes, which does not make an idle worker wait when it stops."""

from collections.abc import Callable
from select import select
from typing import Any

from billiard.pool import DEATH, RUN
from celery import concurrency
from celery.concurrency import asynpool, prefork

# Seconds that a process gets to say that it ends, before it is waited for as Celery does.
SAYS_WITHIN = 1.0


def register() -> None:
    """Make this the pool of `celery worker --pool prefork`, which is the default."""
    concurrency.ALIASES["prefork"] = "penstock.prefork:TaskPool"


class ResultHandler(asynpool.ResultHandler):
    """Hears also of the end of processes that have nothing to do.

    A process says that it ends and then sleeps for a second, or until a signal tells it that it was
    heard (billiard 4.3.2, pool.py: Worker._do_exit and on_death). Celery 5.7.0 does not listen when
    no job runs (celery/concurrency/asynpool.py: ResultHandler.on_stop_not_started).
    """

    def on_stop_not_started(self) -> None:
        """Listen until each process that is alive has said that it ends."""
        super().on_stop_not_started()
        processes = self.fileno_to_outq
        silent = {fd for fd, process in processes.items() if process._is_alive()}
        while silent:
            readable, _, _ = select(silent, [], [], SAYS_WITHIN)
            if not readable:
                return
            for fd in readable:
                self._flush_outqueue(fd, silent.discard, processes, self._until_death(fd, silent))

    def _until_death(self, fd: int, silent: set[int]) -> Callable[[tuple[int, Any]], None]:
        def on_state_change(task: tuple[int, Any]) -> None:
            self.on_state_change(task)
            if task[0] == DEATH:
                silent.discard(fd)

        return on_state_change


class AsynPool(asynpool.AsynPool):
    """Celery's pool, with the handler above."""

    ResultHandler = ResultHandler


class TaskPool(prefork.TaskPool):
    """What Celery's worker starts."""

    Pool = AsynPool
    _pool: Any

    def on_stop(self) -> None:
        """Stop at once where no job runs.

        Replaces a thread that keeps time for running jobs and ends up to half a second after them
        (celery 5.7.0, celery/concurrency/prefork.py).
        """
        pool = self._pool
        if pool is not None and pool._state == RUN and not pool._cache:
            pool.close()
            pool.join()
            self._pool = None
        super().on_stop()
