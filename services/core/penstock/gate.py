"""How a new job comes into the broker: in one step, in time, once for each Idempotency-Key, or not.

One script decides it all, so a job is either queued or has left nothing behind, and two requests at
once cannot both win.
"""

from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from penstock.broker import NOW, Keys, Word
from penstock.clock import BrokerClock

# KEYS: queue, idempotency key. ARGV: latest time in ms, message, limit, fingerprint or nothing,
# job id, ttl in seconds.
ADMIT = (
    NOW
    + """
if now > tonumber(ARGV[1]) then return {'late'} end
local fingerprint = ARGV[4]
if fingerprint ~= '' then
  local known = redis.call('GET', KEYS[2])
  if known and known:sub(1, #fingerprint) ~= fingerprint then return {'reused'} end
  if known then
    return {'known', known:sub(#fingerprint + 1), ARGV[6] - redis.call('TTL', KEYS[2])}
  end
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[3]) then return {'full'} end
if fingerprint ~= '' then
  redis.call('SET', KEYS[2], fingerprint .. ARGV[5], 'EX', ARGV[6])
end
redis.call('LPUSH', KEYS[1], ARGV[2])
return {'queued'}
"""
)


class BrokerUnavailableError(Exception):
    """The broker did not take the job, so it was not accepted."""


class QueueFullError(Exception):
    """As many jobs wait in the queue as the catalogue allows, so this one was not accepted."""


class KeyReusedError(Exception):
    """The idempotency key stands for another request."""


class AlreadyAcceptedError(Exception):
    """The same request was accepted before, as the job `job_id`, `age` seconds ago."""

    def __init__(self, job_id: str, age: int) -> None:
        super().__init__(f"accepted before, as job {job_id}")
        self.job_id = job_id
        self.age = age


class LateError(Exception):
    """The broker came to it too late, and did nothing."""


@dataclass(frozen=True)
class Once:
    """A request that may be made again: the client's key for it, and a digest of what it asks for.

    All digests are of one length.
    """

    key: str
    fingerprint: str


@dataclass(frozen=True)
class Gate:
    """What a job has to pass. The transport calls it with the finished message; see `Producer`.

    `within` is seconds and `ttl`, for which the key is remembered, too.
    """

    clock: BrokerClock
    job_id: str
    limit: int
    within: float
    once: Once | None
    ttl: int

    def admit(self, client: Redis, keys: Keys, source: str, message: str) -> None:
        """Queue the message; raises one of the errors above, or RedisError, and then it is not."""
        once = self.once or Once("", "")
        words: list[Word] = [
            self.clock.in_(self.within, client),
            message,
            self.limit,
            once.fingerprint,
            self.job_id,
            self.ttl,
        ]
        wanted = [keys.queue(source), f"{keys.prefix}penstock:once:{once.key}"]
        answer = client.register_script(ADMIT)(keys=wanted, args=words)
        match cast("list[Any]", answer):
            case [b"queued"]:
                return
            case [b"known", job_id, age]:
                raise AlreadyAcceptedError(job_id.decode(), age)
            case [b"reused"]:
                raise KeyReusedError(f"the key {once.key!r} was used for another request")
            case [b"full"]:
                raise QueueFullError(f"{self.limit:,} jobs wait in the queue {source} already")
            case _:
                raise LateError
