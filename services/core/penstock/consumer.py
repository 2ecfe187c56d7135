"""Celery's consumer, which goes on whatever a message is and whatever becomes of the connection."""

from collections.abc import Callable
from typing import Any

import structlog
from celery import signals
from celery.exceptions import InvalidTaskError
from celery.worker.consumer import Consumer as CeleryConsumer

from penstock import outcomes

logger = structlog.get_logger(__name__)


class Consumer(CeleryConsumer):
    """Puts what no handler can take among the dead letters.

    Celery 5.7.0 deletes such a message, or ends the worker and leaves it to the next one
    (celery/worker/consumer/consumer.py: on_decode_error and the following).
    """

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
                _require_arguments(message.payload)
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


def _require_arguments(body: Any) -> None:
    """Raise InvalidTaskError where no task can be called with a body of Celery's protocol 2.

    Celery 5.7.0 ends a job whose keyword arguments are no mapping as a success, and one whose
    options are none not at all in a pool of threads, where it takes a place for ever
    (celery/app/trace.py: trace_task; celery/concurrency/base.py: apply_target).
    """
    if isinstance(body, list):
        args, kwargs, options = body
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise InvalidTaskError("the body is not [arguments, keyword arguments, options]")
        if not isinstance(options, dict | None):
            raise InvalidTaskError("the options in the body are no object")
