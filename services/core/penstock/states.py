"""Celery's signals, written into the job's record.

They are the first to tell. That a job is dead is told again by the step that ends its delivery,
which is never lost; see `penstock.outcomes`.
"""

import json
from typing import Any

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.utils.saferepr import saferepr

from penstock.records import State
from penstock.task import RETRIES_USED_UP, JobTask


def reason_of(error: BaseException) -> str:
    """Return one line for a person: what went wrong, without a traceback."""
    if isinstance(error, (SoftTimeLimitExceeded, TimeLimitExceeded)):
        return "took longer than its time limit"
    try:
        text = " ".join(str(error).split())
    except Exception as unreadable:  # whatever an error's own __str__ raises
        text = f"(its text cannot be read: {type(unreadable).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def result_of(value: object) -> str:
    """Return what a job returned, as JSON; what JSON does not know is a text that shows it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode().decode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps(saferepr(value).encode(errors="replace").decode())


def _on_success(sender: Any, result: Any, **_: Any) -> None:
    if isinstance(sender, JobTask):
        sender.note(State.SUCCESS, result=result_of(result))


def death_of(error: BaseException) -> str:
    """Return the reason under which a job that ended with `error` is a dead letter."""
    if isinstance(error, TimeLimitExceeded):
        return "time limit"
    used_up = RETRIES_USED_UP in getattr(error, "__notes__", ())
    return RETRIES_USED_UP if used_up else "permanent error"


def _on_failure(sender: Any, exception: BaseException, **_: Any) -> None:
    # One that ran out of memory is run again, or dies as poison: `JobRequest.on_failure` decides.
    if isinstance(sender, JobTask) and sender.request.id and not isinstance(exception, MemoryError):
        sender.note(State.DEAD, error=reason_of(exception), reason=death_of(exception))


def connect() -> None:
    """Listen to Celery's signals; a second call changes nothing."""
    signals.task_success.connect(_on_success)
    signals.task_failure.connect(_on_failure)
