"""What is known of a job, from the moment it is accepted: a Redis hash in the results role."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from time import time
from typing import Any, Self

import structlog
from pydantic import BaseModel, Json
from redis import Redis, RedisError, WatchError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from penstock.settings import Settings

# What redis-py takes as a hash.
Scalar = bytes | bytearray | memoryview | str | int | float
Fields = dict[Scalar, Scalar]

logger = structlog.get_logger(__name__)


class State(StrEnum):
    """Where a job stands. Celery's names, so that Flower and a record say the same."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def final(self) -> bool:
        """Whether a job in this state will not move on."""
        return self in {State.SUCCESS, State.FAILURE, State.REVOKED}


class Record(BaseModel):
    """One job. Times are seconds since 1970; `attempts` counts its starts."""

    id: str
    job: str
    state: State
    queue: str | None = None
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    retry_at: float | None = None
    attempts: int = 0
    progress: int | None = None
    total: int | None = None
    result: Json[Any] | None = None
    error: str | None = None


class Records:
    """The records of all jobs; each is kept for `ttl` seconds after it was last written.

    A worker's writes never raise: a job whose record cannot be written still runs and ends.
    """

    def __init__(self, redis: "Redis", ttl: int) -> None:
        self.redis = redis
        self.ttl = ttl

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Return the records that `settings` name; the connection is made when it is first used."""
        redis = Redis.from_url(
            settings.redis("results"),
            decode_responses=True,
            socket_connect_timeout=0.5,
            socket_timeout=2,
            retry=Retry(ExponentialBackoff(base=0.05, cap=0.2), 2),
        )
        return cls(redis, settings.records_ttl)

    @staticmethod
    def _key(job_id: str) -> str:
        return f"penstock:job:{job_id}"

    def _write(
        self,
        job_id: str,
        fields: Fields,
        *,
        start: bool = False,
        attempt: int | None = None,
        obsolete: tuple[str, ...] = (),
    ) -> int | None:
        """Write `fields`; with `start`, count another attempt and return which it is.

        With `attempt`, nothing is written when a later one has begun.
        """
        key = self._key(job_id)
        with self.redis.pipeline() as pipe:
            if attempt is not None:
                pipe.watch(key)  # type: ignore[no-untyped-call]
                if pipe.hget(key, "attempts") != str(attempt):
                    return None
                pipe.multi()
            pipe.hset(key, mapping=fields)
            if obsolete:
                pipe.hdel(key, *obsolete)
            pipe.expire(key, self.ttl)
            if start:
                pipe.hincrby(key, "attempts", 1)
            outcomes = pipe.execute()
        return int(outcomes[-1]) if start else None

    def read(self, job_id: str) -> Record | None:
        """Return the record, or None for an id that was never issued; may raise RedisError."""
        fields = self.redis.hgetall(self._key(job_id))
        return Record.model_validate({"id": job_id, **fields}) if fields else None

    def open(self, job_id: str, job: str, queue: str) -> None:
        """Record a job that is about to be queued; may raise RedisError."""
        self._write(
            job_id, {"job": job, "queue": queue, "state": State.PENDING, "queued_at": time()}
        )

    def forget(self, job_id: str) -> None:
        """Remove the record of a job that could not be queued after all."""
        with self._never_raising(job_id):
            self.redis.delete(self._key(job_id))

    def start(self, job_id: str, job: str, queue: str) -> int | None:
        """Record that a worker begins the job; return which attempt it is, if that is known."""
        fields: Fields = {
            "job": job,
            "queue": queue,
            "state": State.STARTED,
            "started_at": time(),
        }
        with self._never_raising(job_id):
            return self._write(job_id, fields, start=True, obsolete=("retry_at",))
        return None

    def progress(self, job_id: str, done: int, total: int) -> None:
        """Record that `done` of `total` steps are done."""
        with self._never_raising(job_id):
            self._write(job_id, {"state": State.PROGRESS, "progress": done, "total": total})

    def retry(self, job_id: str, error: str, at: float, attempt: int | None = None) -> None:
        """Record that `attempt` failed for now and the job is tried again at the time `at`.

        The message of the next attempt is out by then, so that may have begun or even ended.
        """
        fields: Fields = {"state": State.RETRY, "error": error, "retry_at": at}
        with self._never_raising(job_id), suppress(WatchError):
            self._write(job_id, fields, attempt=attempt)

    def succeed(self, job_id: str, result: Any) -> None:
        """Record the job's end with its result, which must be JSON."""
        with self._never_raising(job_id):
            self._write(
                job_id,
                {"state": State.SUCCESS, "finished_at": time(), "result": json.dumps(result)},
                obsolete=("error", "retry_at"),
            )

    def fail(self, job_id: str, error: str, state: State = State.FAILURE) -> None:
        """Record the job's end without a result."""
        with self._never_raising(job_id):
            self._write(
                job_id,
                {"state": state, "finished_at": time(), "error": error},
                obsolete=("retry_at",),
            )

    @contextmanager
    def _never_raising(self, job_id: str) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            logger.warning("record not written", job_id=job_id, error=str(error))
