"""How a job's run ends for its message: in the worker's main process, in one step in the broker."""

from collections.abc import Callable, Iterable
from time import time
from typing import Any, cast

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import (
    Ignore,
    Reject,
    Retry,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.worker.request import Request

from penstock import outcomes
from penstock.broker import Command
from penstock.custody import Custody, Delivery
from penstock.records import State
from penstock.states import death_of, reason_of
from penstock.task import Later

# Ends of a run that are no failure of the job, or that Celery ends rightly by itself.
NO_FAILURE = (Ignore, Reject, Retry, Terminated, WorkerLostError, SystemExit, KeyboardInterrupt)


class JobRequest(Request):
    """Celery's request, whose message is moved to where its job goes next before Celery ends it.

    Celery acknowledges afterwards, which then finds nothing left to end.
    """

    @property
    def _custody(self) -> Custody:
        custody: Custody = self._message.channel.custody
        return custody

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what `celery inspect` and Flower tell of the request.

        Replaces telling the arguments themselves to whoever asks without saying `safe`.
        """
        return dict(super().info(safe=True))

    def _settle(self, commands: Callable[[Delivery], Iterable[Command]]) -> None:
        self._custody.settle(self._message.delivery_tag, commands)

    def _tell(self, state: State) -> None:
        keys = self._custody.broker.keys
        self._settle(lambda it: outcomes.told(keys, it.item, state))

    def _bury(self, reason: str, error: str, traceback: str = "", **state: State) -> None:
        keys, worker = self._custody.broker.keys, self._hostname
        self._settle(
            lambda it: outcomes.dead(
                keys, it.holding.source, it.item, reason, error, worker, traceback, **state
            )
        )

    def on_retry(self, exc_info: Any) -> None:
        """Put the job among the delayed in the step that ends this run.

        Replaces publishing it from the pool's process and acknowledging later: a worker that dies
        between the two leaves the job twice.
        """
        error = _bare(exc_info.exception)
        if isinstance(error, Later):
            keys, worker = self._custody.broker.keys, self._hostname
            due = time() + float(cast("float", error.when))
            why = reason_of(error.exc) if error.exc else "asked for a retry"
            self._settle(
                lambda it: outcomes.later(keys, it.holding.source, it.item, worker, why, due)
            )
        super().on_retry(exc_info)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """Put a job that failed for good among the dead letters."""
        error = _bare(exc_info.exception)
        if isinstance(error, MemoryError):
            # Which of the jobs in this process took the memory is not known, so it is counted.
            keys, worker = self._custody.broker.keys, self._hostname
            why = reason_of(error)
            self._settle(lambda it: outcomes.again(keys, it.holding.source, it.item, worker, why))
            # Celery raises this one again, here in the main process, which would end the worker.
            exc_info.exception = RuntimeError(why)
        elif type(error) is Ignore:
            # The handler asked for no outcome; without one the job would seem to run for ever.
            self._tell(State.SUCCESS)
        elif not isinstance(error, NO_FAILURE):
            self._bury(death_of(error), reason_of(error), str(exc_info.traceback))
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Put a job that was killed at its hard limit among the dead letters."""
        if not soft:
            error = TimeLimitExceeded(timeout)
            self._bury(death_of(error), reason_of(error))
        super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        if expired:
            self._bury("expired", "expired before it began", state=State.EXPIRED)
        else:
            self._tell(State.CANCELLED)
        super()._announce_revoked(reason, terminated, signum, expired)


def _bare(error: Any) -> BaseException:
    inner = error.exc if isinstance(error, ExceptionWithTraceback) else error
    assert isinstance(inner, BaseException)
    return inner
