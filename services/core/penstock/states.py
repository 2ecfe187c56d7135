"""Celery's signals, written into the job's record.

Signals and not the task's own handlers, because a job that was killed (time limit, lost process)
fails in the worker's main process, where only the signal is sent.
"""

from datetime import UTC, datetime
from time import time
from typing import Any

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from penstock.records import State
from penstock.task import JobTask


def reason_of(error: BaseException) -> str:
    """Return one line for a person: what went wrong, without a traceback."""
    if isinstance(error, (SoftTimeLimitExceeded, TimeLimitExceeded)):
        return "took longer than its time limit"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _on_start(sender: Any, task_id: str, task: Any, **_: Any) -> None:
    if isinstance(task, JobTask):
        queue = str((task.request.delivery_info or {}).get("routing_key", ""))
        attempt = task.records.start(task_id, task.name or "", queue)
        task.request.attempt = attempt  # type: ignore[attr-defined]


def _on_retry(sender: Any, request: Any, reason: Any, **_: Any) -> None:
    if isinstance(sender, JobTask):
        why = reason_of(reason.exc or reason)
        sender.records.retry(request.id, why, _due(reason.when), request.attempt)


def _due(when: datetime | float | None) -> float:
    """Return Celery's `Retry.when`, seconds from now or a moment, as seconds since 1970."""
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return time() + (when or 0)


def _on_success(sender: Any, result: Any, **_: Any) -> None:
    if isinstance(sender, JobTask):
        sender.records.succeed(sender.request.id or "", result)


def _on_failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    if isinstance(sender, JobTask):
        sender.records.fail(task_id, reason_of(exception))


def _on_revoke(sender: Any, request: Any, expired: bool, **_: Any) -> None:
    if isinstance(sender, JobTask):
        why = "expired before it began" if expired else "revoked"
        sender.records.fail(request.id, why, State.REVOKED)


def connect() -> None:
    """Listen to Celery's signals; a second call changes nothing."""
    signals.task_prerun.connect(_on_start)
    signals.task_retry.connect(_on_retry)
    signals.task_success.connect(_on_success)
    signals.task_failure.connect(_on_failure)
    signals.task_revoked.connect(_on_revoke)
