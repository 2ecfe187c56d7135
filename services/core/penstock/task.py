"""The Celery base task: plain `@shared_task` functions get retries and progress from it."""

from time import monotonic
from typing import Any, NoReturn

from celery import Task

from penstock.backoff import Backoff
from penstock.records import Records
from penstock.settings import Settings

# Seconds between two notes of a job's progress; a client polls more seldom than that.
PROGRESS_INTERVAL = 0.25


class JobTask(Task):  # type: ignore[type-arg]
    """A task whose retries follow the catalogue and whose progress can be seen.

    Transient errors are declared as in any Celery app, by `autoretry_for`; how long a retry waits
    comes from the catalogue. Whatever else a handler raises ends the job at once.
    """

    settings: Settings
    records: Records
    backoff: Backoff = Backoff(retries=3, first=60)
    _noted_at: float = 0

    @property
    def job_id(self) -> str:
        """The id under which the running job was accepted; the same on every attempt."""
        assert self.request.id is not None
        return self.request.id

    def retry(self, *args: Any, **options: Any) -> NoReturn:
        """As Celery's, but without `countdown` or `eta` the delay is the catalogue's."""
        if options.get("countdown") is None and options.get("eta") is None:
            options["countdown"] = self.backoff.delay(
                self.request.retries, scale=self.settings.retry_scale
            )
        super().retry(*args, **options)
        raise AssertionError("Celery's retry always raises")

    def progress(self, done: int, total: int) -> None:
        """Record that `done` of `total` steps are done, at most a few times a second."""
        if done >= total or monotonic() - self._noted_at >= PROGRESS_INTERVAL:
            self.records.progress(self.job_id, done, total)
            # Counted from here, because a write takes long where the records cannot be reached.
            self._noted_at = monotonic()
