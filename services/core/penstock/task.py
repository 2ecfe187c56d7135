"""The Celery base task: it gives plain `@shared_task` functions retries, progress and records."""

import json
from collections.abc import Callable
from time import monotonic, time
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Retry
from celery.utils.serialization import get_pickleable_exception

from penstock.backoff import Backoff
from penstock.catalogue import Uncertain
from penstock.effects import Effects, GuardUnavailableError
from penstock.records import Records, State
from penstock.settings import Settings

# Seconds between two notes of a job's progress; a client polls more seldom than that.
PROGRESS_INTERVAL = 0.25


# The note on the error of a job that was tried as often as it may be.
RETRIES_USED_UP = "retries used up"


class Later(Retry):
    """A retry that the worker's main process puts among the delayed when it ends this run."""


class ReplacedError(Ignore):
    """Another job goes on under this one's id."""


class JobTask(Task):  # type: ignore[type-arg]
    """A task whose retries follow the catalogue and whose progress can be seen.

    Transient errors are declared as in any Celery app, by `autoretry_for`; how long a retry waits
    comes from the catalogue. Whatever else a handler raises ends the job at once.
    """

    Request = "penstock.request:JobRequest"

    settings: Settings
    records: Records
    effects: Effects
    backoff: Backoff = Backoff(retries=3, first=60)
    uncertain: Uncertain = "dead-letter"
    _noted_at: float = 0

    @property
    def job_id(self) -> str:
        """The id under which the running job was accepted; the same on every attempt."""
        assert self.request.id is not None
        return self.request.id

    @property
    def fence(self) -> int:
        """The running delivery's fencing token; see `penstock.envelope`."""
        noted = getattr(self.request, "penstock", None)
        return int(noted.get("fence", 1)) if isinstance(noted, dict) else 1

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Record that the job begins; one that was cancelled does not."""
        super().before_start(task_id, args, kwargs)
        queue = str((self.request.delivery_info or {}).get("routing_key", ""))
        self.note(State.STARTED, job=self.name, queue=queue, started_at=time())

    def retry(self, *args: Any, **options: Any) -> NoReturn:
        """As Celery's, but without `countdown` or `eta` the delay is the catalogue's.

        A plain retry, of the same arguments, is left to the worker's main process; one with
        arguments or options of its own is published here, as Celery does.
        """
        plain = not args and options.keys() <= {"exc", "countdown", "max_retries", "throw"}
        countdown = options.get("countdown")
        if countdown is None and options.get("eta") is None:
            countdown = self.backoff.delay(self.request.retries, scale=self.settings.retry_scale)
            options["countdown"] = countdown
        limit = options.get("max_retries", self.max_retries)
        left = limit is None or self.request.retries < limit
        if plain and left and not self.request.called_directly and not self.request.is_eager:
            raise Later(exc=options.get("exc"), when=countdown)
        if not left and isinstance(options.get("exc"), Exception):
            # Travels with the error to where the job's end is decided, and shows in the traceback.
            options["exc"] = get_pickleable_exception(options["exc"])
            options["exc"].add_note(RETRIES_USED_UP)
        super().retry(*args, **options)
        raise AssertionError("Celery's retry always raises")

    def replace(self, sig: Any) -> Any:
        """As Celery's, which says that the job ends without an outcome, and here it goes on."""
        try:
            return super().replace(sig)
        except Ignore as replaced:
            raise ReplacedError(*replaced.args) from None

    def once(
        self,
        step: str,
        act: Callable[[], Any],
        *,
        released_by: tuple[type[Exception], ...] = (),
        repeatable: float = 0,
    ) -> Any:
        """Do `act`, an effect that this system cannot undo, once for this job.

        Returns what it returned, as JSON knows it, also when it was an earlier run of the job that
        did it; `step` tells the effects of one job apart. An error of `released_by` says that
        nothing has happened. Any other leaves the effect uncertain, as the loss of the worker does:
        what the next run does then is the job's `uncertain` in the catalogue. `repeatable` is for
        how many seconds after the first try the effect can be done again without happening twice,
        because whoever does it knows the job's id; for so long it is done again in any case.

        Raises UncertainEffectError, which ends the job, and StaleRunError, which ends this run
        alone. While the broker is away nothing is done, and the job is tried again later. In a task
        that is called as a function, and so is no job, nothing is guarded.
        """
        if self.request.called_directly:
            return json.loads(json.dumps(act()))
        try:
            claim = self.effects.claim(self.job_id, step, self.fence, self.uncertain, repeatable)
        except GuardUnavailableError as error:
            self.retry(exc=error)
        self.request.update(guarded=True)
        return self.effects.do(claim, act, released_by)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Let go of the claims on the job's effects."""
        super().on_success(retval, task_id, args, kwargs)
        if getattr(self.request, "guarded", False):
            self.effects.ended(task_id)

    def progress(self, done: int, total: int) -> None:
        """Record that `done` of `total` steps are done, at most a few times a second.

        Raises CancelledError when the job has been cancelled meanwhile.
        """
        if done >= total or monotonic() - self._noted_at >= PROGRESS_INTERVAL:
            self.note(State.PROGRESS, progress=done, total=total)
            # Counted from here, because a write takes long where the records cannot be reached.
            self._noted_at = monotonic()

    def note(self, state: State, **fields: Any) -> None:
        """Write the running job's record; raises CancelledError where it is not wanted any more."""
        if not self.request.called_directly:
            # Nobody's delivery ends with an eager run, as in an app's own tests without a server.
            hold = not self.request.is_eager
            self.records.note(self.job_id, state, self.fence, hold=hold, **fields)
