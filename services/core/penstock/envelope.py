"""A message as the broker carries it, and what Penstock notes in its headers.

The notes travel with the message, so counting deliveries or keeping the history of attempts costs
no command and no key of its own, and whoever holds the message holds its history.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import Any, Self
from uuid import uuid4

from celery.utils.saferepr import saferepr
from kombu.compression import decompress

# The header that Penstock's notes stand under, and what they are.
HEADER = "penstock"
NOTES: dict[str, Callable[[Any], bool]] = {
    # The server's scripts count exactly up to 2**53.
    "fence": lambda it: type(it) is int and 1 <= it < 2**53,
    "deliveries": lambda it: type(it) is int and 0 <= it < 2**53,
    "attempts": lambda it: isinstance(it, list),
}
JSON = "application/json"
# How many attempts a message remembers; the newest are kept.
ATTEMPTS_KEPT = 20


class MalformedError(Exception):
    """An item of a queue is not a message that a worker could run; the text says why."""


@dataclass
class Envelope:
    """A decoded message.

    `fence` grows with each delivery, retry and replay of a job, so that of two runs the newer one
    can be told (Martin Kleppmann, "How to do distributed locking", 2016). `deliveries` counts the
    times that the message was taken and neither finished nor given back.
    """

    raw: dict[str, Any]
    fence: int = 1
    deliveries: int = 0
    attempts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def decode(cls, item: bytes) -> Self:
        """Return the message in `item`; raises MalformedError."""
        try:
            raw = json.loads(item)
        except (ValueError, RecursionError) as error:
            raise MalformedError(f"not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise MalformedError("not a JSON object")
        for part, kind in (("headers", dict), ("properties", dict), ("body", str)):
            if not isinstance(raw.get(part), kind):
                raise MalformedError(f"{part} is missing or of the wrong type")
        properties = raw["properties"]
        if not isinstance(properties.get("delivery_info"), dict):
            raise MalformedError("properties.delivery_info is missing or of the wrong type")
        encoding = properties.get("body_encoding")
        if encoding == "base64":
            try:
                b64decode(raw["body"])
            except ValueError as error:
                raise MalformedError(f"the body is not Base64: {error}") from None
        elif encoding is not None:
            raise MalformedError("properties.body_encoding is not base64")
        noted = raw["headers"].get(HEADER)
        ours = isinstance(noted, dict) and all(
            name in NOTES and NOTES[name](value) for name, value in noted.items()
        )
        if not ours:
            raw["headers"].pop(HEADER, None)
            return cls(raw)
        return cls(raw, **noted)

    @property
    def job_id(self) -> str:
        """The job's id, or the empty string where the message has none."""
        return _text(self.raw["headers"].get("id"))

    @property
    def job(self) -> str:
        """The job's name, or the empty string where the message has none."""
        return _text(self.raw["headers"].get("task"))

    @property
    def queue(self) -> str:
        """The queue that the message was published to."""
        return _text(self.raw["properties"]["delivery_info"].get("routing_key"))

    @property
    def content_type(self) -> str:
        """What the body is written in; Celery's default is JSON."""
        return _text(self.raw.get("content-type"))

    def body(self) -> tuple[list[Any], dict[str, Any], Any]:
        """Return the job's positional and keyword arguments, and Celery's callbacks and the like.

        Raises MalformedError where the body is not JSON or not of Celery's protocol 2.
        """
        if self.content_type != JSON:
            raise MalformedError(f"the body is {self.content_type or 'of no type'}, not {JSON}")
        try:
            args, kwargs, embedded = json.loads(self._content())
        except Exception as error:  # decoders raise errors of many kinds
            raise MalformedError(f"the body cannot be read: {error}") from None
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise MalformedError("the body is not [arguments, keyword arguments, options]")
        return args, kwargs, embedded

    def _content(self) -> str:
        body = self.raw["body"]
        encoded = self.raw["properties"].get("body_encoding") == "base64"
        content = b64decode(body) if encoded else body.encode()
        if compression := self.raw["headers"].get("compression"):
            content = decompress(content, compression)
        return str(content, self.raw.get("content-encoding") or "utf-8")

    def encode(self) -> bytes:
        """Return the message as the broker carries it, with the notes as they are now."""
        self.raw["headers"][HEADER] = {
            "fence": self.fence,
            "deliveries": self.deliveries,
            "attempts": self.attempts[-ATTEMPTS_KEPT:],
        }
        return json.dumps(self.raw).encode()

    @property
    def due(self) -> float | None:
        """When the job is to begin, in seconds since 1970; None where that is as soon as it can."""
        eta = self.raw["headers"].get("eta")
        if not eta:
            return None
        try:
            moment = datetime.fromisoformat(eta)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None

    def tried(self, worker: str, error: str) -> None:
        """Note an attempt that did not end well."""
        self.attempts.append({"at": time(), "worker": worker, "error": error})

    def redelivered(self, worker: str, error: str) -> Self:
        """Return the message for another delivery after `worker` did not finish this one."""
        self.tried(worker, error)
        self.fence += 1
        self.deliveries += 1
        self.raw["headers"]["redelivered"] = True
        self.raw["properties"]["delivery_info"]["redelivered"] = True
        return self

    def retried(self, worker: str, error: str) -> Self:
        """Return the message for the next of the job's retries."""
        self.tried(worker, error)
        self.fence += 1
        headers = self.raw["headers"]
        headers["retries"] = int(headers.get("retries") or 0) + 1
        self.raw["properties"]["delivery_tag"] = str(uuid4())
        return self.delayed()

    def delayed(self) -> Self:
        """Return the message as it waits among the delayed: its place there says when it is due."""
        self.raw["headers"]["eta"] = None
        return self

    def replayed(self, attempts: list[dict[str, Any]]) -> Self:
        """Return the message as if it had just been accepted, but with a history.

        It leaves one fence free, for the note that the job waits again: that is then older than
        whatever the run notes, which may come first.
        """
        self.fence += 2
        self.deliveries = 0
        self.attempts = attempts
        headers, properties = self.raw["headers"], self.raw["properties"]
        headers.update({"retries": 0, "eta": None, "expires": None, "redelivered": False})
        properties["delivery_info"]["redelivered"] = False
        properties["delivery_tag"] = str(uuid4())
        return self

    def with_arguments(self, args: list[Any], kwargs: dict[str, Any], shown: str) -> Self:
        """Return the message with other arguments; raises MalformedError as `body` does.

        `shown` is what Flower shows of the keyword arguments.
        """
        *_, embedded = self.body()
        content = json.dumps([args, kwargs, embedded]).encode()
        self.raw.update({"body": b64encode(content).decode(), "content-encoding": "utf-8"})
        self.raw["properties"]["body_encoding"] = "base64"
        headers = self.raw["headers"]
        headers.pop("compression", None)
        headers.update({"argsrepr": saferepr(args), "kwargsrepr": shown})
        return self


def _text(value: object) -> str:
    # JSON can hold halves of characters, which nothing that is stored or sent can.
    return str(value or "").encode(errors="replace").decode()
