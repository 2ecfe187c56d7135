"""What is known of a job, from the moment it is accepted: a Redis hash in the results role."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from time import sleep, time
from typing import Any, Self, cast

import structlog
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError
from pydantic import BaseModel, Json
from redis import Redis, RedisError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from penstock.broker import Broker
from penstock.settings import Settings

logger = structlog.get_logger(__name__)

# Seconds between two tries to note a success while neither server can be reached.
AWAY_PAUSE = 0.5


class State(StrEnum):
    """Where a job stands."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    DEAD = "DEAD"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def final(self) -> bool:
        """Whether a job in this state will not move on by itself."""
        return self in FINAL


FINAL = {State.SUCCESS, State.DEAD, State.CANCELLED, State.EXPIRED}


class CancelledError(Ignore):
    """The job was cancelled; a run that raises this ends without another outcome."""


class Record(BaseModel):
    """One job. Times are seconds since 1970; `attempts` counts its starts.

    `fence` is that of the newest run that wrote here; see `penstock.envelope`.
    """

    id: str
    job: str = ""
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
    reason: str | None = None
    fence: int = 0


# KEYS: record. ARGV: ttl in seconds, then fields and values. What is there already stays.
OPEN = """
for i = 2, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

# KEYS: record, ended, seconds. ARGV: ttl in seconds, fence, state, then fields and values.
# A run is not heard once a newer one has been, nor after its own end: whatever comes late, over
# another connection or from a worker that was taken for dead, changes nothing.
NOTE = """
local known = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')
local state = redis.call('HGET', KEYS[1], 'state')
local fence = tonumber(ARGV[2])
if fence < known or (fence == known and ARGV[3] == 'RETRY') then return 'stale' end
if state == 'CANCELLED' and ARGV[3] ~= 'SUCCESS' then return 'CANCELLED' end
if fence == known and (state == 'SUCCESS' or state == 'DEAD' or state == 'EXPIRED') then
  return 'stale'
end
-- What went wrong before is no part of what comes after.
redis.call('HDEL', KEYS[1], 'retry_at', 'finished_at', 'error', 'reason')
redis.call('HSET', KEYS[1], 'fence', fence, 'state', ARGV[3], unpack(ARGV, 4))
if ARGV[3] == 'STARTED' then redis.call('HINCRBY', KEYS[1], 'attempts', 1) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
local ended = redis.call('HGET', KEYS[1], 'finished_at')
if ended then
  local job, began = unpack(redis.call('HMGET', KEYS[1], 'job', 'started_at'))
  local what = ARGV[3] .. ' ' .. (job or '')
  redis.call('HINCRBY', KEYS[2], what, 1)
  redis.call('HINCRBYFLOAT', KEYS[3], what, began and math.max(0, ended - began) or 0)
end
return 'noted'
"""

# KEYS: record, ended. ARGV: time. Returns the state that the job had, or false for an unknown one.
CANCEL = """
local state = redis.call('HGET', KEYS[1], 'state')
if state and state ~= 'SUCCESS' and state ~= 'DEAD' and state ~= 'EXPIRED' then
  redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'finished_at', ARGV[1])
  if state ~= 'CANCELLED' then
    local job = redis.call('HGET', KEYS[1], 'job') or ''
    redis.call('HINCRBY', KEYS[2], 'CANCELLED ' .. job, 1)
  end
end
return state
"""

# Hashes by state and job: how many jobs ended so, and how many seconds their last runs took. They
# are counted in the step that notes an end, which hears of each once, and are never forgotten.
ENDED = "penstock:ended"
SECONDS = "penstock:ended:seconds"


@dataclass(frozen=True)
class Tally:
    """How many jobs of a name ended in a state; `seconds` is how long their last runs took."""

    job: str
    state: str
    count: int
    seconds: float


class Records:
    """The records of all jobs; each is kept for `ttl` seconds after it was last written.

    While the results are away, what a worker notes goes into the broker's outbox and is brought
    from there later; see `penstock.housekeeping`. While both are away a job goes on without a note
    of its progress, but its success is held until one of them is back.
    """

    def __init__(self, results: Redis, broker: Callable[[], Broker], ttl: int) -> None:
        self.redis = results
        self.ttl = ttl
        self._broker = cache(broker)
        self._open = results.register_script(OPEN)
        self._note = results.register_script(NOTE)
        self._cancel = results.register_script(CANCEL)

    @classmethod
    def connect(
        cls,
        settings: Settings,
        broker: Callable[[], Broker] | None = None,
        *,
        timeout: float = 2,
        retries: int = 2,
    ) -> Self:
        """Return the records that `settings` name.

        `broker` makes a client of the broker when it is needed, where that is not the settings'.
        `timeout` is seconds to wait for an answer, `retries` how often it is asked for once more.
        """
        results = Redis.from_url(
            settings.redis("results"),
            socket_connect_timeout=min(0.5, timeout),
            socket_timeout=timeout,
            retry=Retry(ExponentialBackoff(base=0.05, cap=0.2), retries),
            # An error's text may have halves of characters, which cannot be sent.
            encoding_errors="replace",
        )

        def named() -> Broker:
            return Broker(Redis.from_url(settings.redis("broker"), socket_connect_timeout=1))

        return cls(results, broker or named, settings.records_ttl)

    @staticmethod
    def _key(job_id: str) -> str:
        return f"penstock:job:{job_id}"

    # The web tier's side: errors are raised, for the client can be told.

    def read(self, job_id: str) -> Record | None:
        """Return the record, or None for an id that was never issued; may raise RedisError."""
        fields = cast("Mapping[bytes, bytes]", self.redis.hgetall(self._key(job_id)))
        known = {name.decode(): value.decode() for name, value in fields.items()}
        return Record.model_validate({"id": job_id, **known}) if known else None

    def waiting_since(self, job_ids: Sequence[str]) -> list[float | None]:
        """Return since when each job waits, in seconds since 1970; may raise RedisError.

        That is when it was accepted, or when its retry was due; None for a job without a record.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(self._key(job_id), "retry_at", "queued_at")
            answers = pipe.execute()
        return [float(retry_at or queued_at or 0) or None for retry_at, queued_at in answers]

    def tallies(self) -> list[Tally]:
        """Return how many jobs ever ended, by job and state; may raise RedisError."""
        counts = cast("Mapping[bytes, bytes]", self.redis.hgetall(ENDED))
        seconds = cast("Mapping[bytes, bytes]", self.redis.hgetall(SECONDS))
        return [
            Tally(job, state, int(count), float(seconds.get(what, 0)))
            for what, count in sorted(counts.items())
            for state, _, job in [what.decode(errors="replace").partition(" ")]
        ]

    def open(self, job_id: str, job: str, queue: str, queued_at: float | None = None) -> None:
        """Record a job that was queued, unless a worker was faster; raises nothing.

        `queued_at` is seconds since 1970, now where it is not given.
        """
        at = queued_at or time()
        fields = {"job": job, "queue": queue, "state": State.PENDING, "queued_at": at}
        words = [cast("str", word) for pair in fields.items() for word in pair]
        try:
            self._open(keys=[self._key(job_id)], args=[self.ttl, *words])
        except RedisError as error:
            logger.warning("the results are away; noted in the broker", error=str(error))
            # No run has this fence, so what a worker has noted by then stands.
            self._note_later({"id": job_id, "fence": 0, **fields})

    def cancel(self, job_id: str) -> State | None:
        """Cancel a job that has not ended; return the state it had, None for an unknown one.

        It will not start any more, also when the results are away at that time; one that runs is
        told when it next reports its progress. May raise RedisError.
        """
        answer = self._cancel(keys=[self._key(job_id), ENDED], args=[time()])
        if answer is None:
            return None
        state = State(answer.decode())
        if state not in FINAL or state == State.CANCELLED:
            self._mark_cancelled(job_id)
        return state

    def _mark_cancelled(self, job_id: str) -> None:
        """Say it in the broker as well, which a worker asks when it cannot ask the results."""
        try:
            broker = self._broker()
            broker.client.set(_mark(broker, job_id), "", ex=self.ttl)
        except (RedisError, OperationalError) as error:
            logger.warning("cancelled in the results only", job_id=job_id, error=str(error))

    # The workers' side: nothing is raised but CancelledError.

    def note(
        self, job_id: str, state: State, fence: int, *, hold: bool = True, **fields: Any
    ) -> None:
        """Note what became of a run; raises CancelledError where it is not wanted any more.

        With `hold`, returns from the note of a success when it is written, however long that takes:
        nothing tells of it again, unlike of a death, which the step that ends the delivery does.
        """
        update = {"id": job_id, "state": state, "fence": fence, **fields}
        verdict = self._tell(update)
        while hold and verdict == "lost" and state == State.SUCCESS:
            sleep(AWAY_PAUSE)
            verdict = self._tell(update)
        if verdict == "CANCELLED" and not state.final:
            raise CancelledError(f"job {job_id} was cancelled")

    def _tell(self, update: dict[str, Any]) -> str:
        """Write an update to the results, or else to the broker; "lost" where both are away."""
        try:
            return self.apply(update)
        except RedisError as error:
            logger.warning("the results are away; noted in the broker", error=str(error))
            return self._note_later(update)

    def _note_later(self, update: dict[str, Any]) -> str:
        """Put an update into the outbox; return "CANCELLED" where the broker knows of that."""
        try:
            broker = self._broker()
            with broker.client.pipeline() as pipe:
                pipe.rpush(broker.keys.outbox, json.dumps(update))
                pipe.exists(_mark(broker, update["id"]))
                _, cancelled = pipe.execute()
        except (RedisError, OperationalError) as error:
            logger.error("the record was not written", error=str(error), **update)
            return "lost"
        return "CANCELLED" if cancelled else "noted"

    def apply(self, update: dict[str, Any]) -> str:
        """Write an update; return "noted", "stale" or "CANCELLED". May raise RedisError."""
        fields = {name: value for name, value in update.items() if name not in _NOT_FIELDS}
        if State(update["state"]).final:
            fields["finished_at"] = update.get("at") or time()
        words = [word for pair in fields.items() for word in pair] or ["state", update["state"]]
        verdict = self._note(
            keys=[self._key(update["id"]), ENDED, SECONDS],
            args=[self.ttl, update["fence"], update["state"], *words],
        )
        return cast("bytes", verdict).decode()


_NOT_FIELDS = {"id", "state", "fence", "at"}


def _mark(broker: Broker, job_id: str) -> str:
    return f"{broker.keys.prefix}penstock:cancelled:{job_id}"
