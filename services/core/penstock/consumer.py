"""Celery's consumer, which goes on whatever a message is and whatever becomes of the connection."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import structlog
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.concurrency.prefork import TaskPool as Prefork
from celery.exceptions import InvalidTaskError, WorkerLostError
from celery.worker.consumer import Consumer as CeleryConsumer
from pydantic import BaseModel, Field, ValidationError

from penstock import outcomes

logger = structlog.get_logger(__name__)

# Seconds between two tries to reach a broker that is away.
RETRY_INTERVAL = 4.0
# A time limit; one of a year is as good as none, and a timer takes no larger number than it can.
Seconds = Annotated[float, Field(ge=0, le=366 * 86400)]


class Consumer(CeleryConsumer):
    """Puts what no handler can take among the dead letters.

    Celery 5.7.0 deletes such a message, or ends the worker and leaves it to the next one
    (celery/worker/consumer/consumer.py: on_decode_error and the following).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if not isinstance(self.pool, Prefork):
            apply = self.pool.on_apply
            self.pool.on_apply = lambda target, *args, **options: apply(
                partial(_run_here, target), *args, **options
            )

    def ensure_connected(self, conn: Any) -> Any:
        """Wait a few seconds between two tries at most, and not half a minute after a while."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=RETRY_INTERVAL)
        return super().ensure_connected(conn)

    def on_close(self) -> None:
        """Drop nothing: what this worker holds does not belong to the connection that is gone.

        Replaces forgetting all requests that have not begun, which are still this worker's.
        """

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Handle a message so that no error but a lost connection gets out."""
        handle = super().create_task_handler(*args, **options)
        errors = self.connection_errors

        def on_task_received(message: Any) -> Any:
            try:
                _require_sound(message)
                return handle(message)
            except Exception as error:
                if isinstance(error, errors) and not isinstance(error, KeyError):
                    raise
                return self._bury(message, "undecodable", error)

        return on_task_received

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Bury a body that cannot be decoded."""
        self._bury(message, "undecodable", exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Bury a message that names no task."""
        self._bury(message, "undecodable", ValueError("the message names no task"))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Bury a message for a handler that this worker does not have."""
        self._bury(message, "unknown job", exc)
        headers = message.headers
        signals.task_unknown.send(
            sender=self, message=message, exc=exc, name=headers.get("task"), id=headers.get("id")
        )

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Bury a message that a task cannot be called with."""
        self._bury(message, "undecodable", exc)

    def _bury(self, message: Any, reason: str, error: Exception) -> None:
        logger.error("a message cannot be handled", reason=reason, error=str(error))
        custody = message.channel.custody
        custody.settle(
            message.delivery_tag,
            lambda it: outcomes.dead(
                custody.broker.keys,
                it.holding.source,
                it.item,
                reason,
                f"{type(error).__name__}: {error}",
                self.hostname,
                outcomes.traceback_of(error),
            ),
        )
        if not message.acknowledged:
            message.ack_log_error(logger, self.connection_errors)


def _run_here(target: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a job in this process, and give back whatever it raises as Celery gives back a failure.

    Celery 5.7.0 loses what is no Exception, such as asyncio's CancelledError, in a pool of threads
    or greenlets, and the job takes a place for ever; in the solo pool it deafens the worker
    (celery/concurrency/base.py: apply_target). To exit counts as it does with processes, where the
    worker's process is lost by it.
    """
    try:
        try:
            return target(*args, **options)
        except (SystemExit, KeyboardInterrupt) as error:
            raise WorkerLostError(f"the job ended its process: {error!r}") from error
    except BaseException:  # there is nobody else to tell
        return 1, ExceptionInfo(), 0.0


class Headers(BaseModel, strict=True):
    """What Celery's worker takes for granted in the headers of its protocol 2.

    Celery 5.7.0 checks few of them before it uses them, some in the pool or when the job has ended,
    and then the job takes a place for ever.
    """

    id: str = Field(min_length=1)
    task: str
    shadow: str | None = None
    eta: str | None = None
    expires: str | None = None
    retries: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    timelimit: Annotated[list[Seconds | None], Field(min_length=2, max_length=2)] | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    replaced_task_nesting: int | None = None
    ignore_result: bool | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None


class Options(BaseModel, strict=True):
    """The same in the third part of the body."""

    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: list[dict[str, Any]] | None = None
    chord: dict[str, Any] | None = None


def _require_sound(message: Any) -> None:
    """Raise InvalidTaskError where no task can be called with a message of Celery's protocol 2.

    Celery 5.7.0 ends a job whose keyword arguments are no mapping as a success.
    """
    body = message.payload
    if not isinstance(body, list):
        return
    args, kwargs, options = body
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidTaskError("the body is not [arguments, keyword arguments, options]")
    try:
        Headers.model_validate(message.headers)
        Options.model_validate(options or {})
    except ValidationError as error:
        [first, *_] = error.errors()
        where = ".".join(map(str, first["loc"]))
        raise InvalidTaskError(f"{where or 'the options'}: {first['msg']}") from None
