"""Effects that must happen once: claimed in the broker before they are done, settled after it.

What a run does outside of this system (charge, send, post) cannot be undone with its transaction,
so each such step has a claim under the job's id and the step's name:

    nothing --claim--> claimed --settle--> settled, with the value to give to a later run
                          | release, when nothing happened: nothing

A claim that a run left behind without settling it is *uncertain*: the run may have been killed
before the effect, in it or after it. What a later run does then is the job's policy. A claim
carries the fence of the delivery that made it, so a run whose lease was lost cannot act after a
newer one has.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from time import monotonic, sleep
from typing import Any, Self, cast
from uuid import uuid4

import structlog
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from penstock.broker import NOW, Broker, Word
from penstock.catalogue import Uncertain
from penstock.clock import BrokerClock
from penstock.settings import Settings

logger = structlog.get_logger(__name__)

# Seconds within which the broker must have made a claim; one that it makes later does not count.
CLAIM_WITHIN = 2.0
# Seconds for which it is tried to note what became of an effect, and between two tries.
NOTE_FOR, NOTE_INTERVAL = 5.0, 0.5
# Seconds for which the claims of a job that has ended well are kept, for a run of it that was taken
# for dead and wakes up.
ENDED_TTL = 86400
# A time in ms that is longer than any claim is kept.
ALWAYS = 2**53


class GuardUnavailableError(Exception):
    """The broker does not say whether an effect has happened, so it was not begun."""


class UncertainEffectError(Exception):
    """An earlier run may have had the effect, and the job's policy is not to do it again."""


class StaleRunError(Ignore):
    """A newer run of the same job has begun; this one ends, and the newer one counts."""


# KEYS: effects of the job. ARGV: step, token, latest time in ms, fence, ttl in s, and for how many
# ms after its first claim an effect may be done again although nobody knows whether it happened.
CLAIM = (
    NOW
    + """
if now > tonumber(ARGV[3]) then return {'late'} end
local step = ARGV[1]
local value, fence, token, since = unpack(redis.call(
  'HMGET', KEYS[1], step .. ':value', step .. ':fence', step .. ':token', step .. ':since'))
if value then return {'settled', value} end
if fence and tonumber(fence) > tonumber(ARGV[4]) then return {'stale'} end
if token == ARGV[2] then return {'claimed'} end
local again_for = tonumber(ARGV[6])
if token and (again_for == 0 or now - since > again_for) then return {'uncertain', since} end
redis.call('HDEL', KEYS[1], step .. ':token')
redis.call('HSET', KEYS[1], step .. ':token', ARGV[2], step .. ':fence', ARGV[4])
if token then
  redis.call('HSET', KEYS[1], step .. ':doubt', 1)
else
  redis.call('HSET', KEYS[1], step .. ':since', now)
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
return {'claimed'}
"""
)

# KEYS: effects of the job. ARGV: step, token, ttl in s, value. Returns 0 where another run has
# claimed it.
SETTLE = """
local step = ARGV[1]
local token = redis.call('HGET', KEYS[1], step .. ':token')
if token and token ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], step .. ':since', step .. ':doubt')
redis.call('HSET', KEYS[1], step .. ':token', ARGV[2], step .. ':value', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

# KEYS: effects of the job. ARGV: step, token. Where an earlier run left the effect in doubt it
# stays so, because that nothing happened now says nothing about then.
RELEASE = """
local step = ARGV[1]
local token, doubt = unpack(redis.call('HMGET', KEYS[1], step .. ':token', step .. ':doubt'))
if token ~= ARGV[2] or doubt then return 0 end
return redis.call('HDEL', KEYS[1], step .. ':token', step .. ':since')
"""

# KEYS: effects of the job. ARGV: step. What a person has found out. Returns 0 where nothing is
# uncertain.
FORGET = """
local step = ARGV[1]
if redis.call('HEXISTS', KEYS[1], step .. ':value') == 1 then return 0 end
return redis.call('HDEL', KEYS[1], step .. ':token', step .. ':since', step .. ':doubt')
"""


@dataclass(frozen=True)
class Claim:
    """One step of one job, claimed by this run; or settled before, with `value` as JSON."""

    job_id: str
    step: str
    value: str | None = None
    token: str = field(default_factory=lambda: uuid4().hex)


def claim_ttl(settings: Settings) -> int:
    """Return the seconds in which a job can come back: it may wait, and its dead letter is kept."""
    return settings.dead_ttl + settings.records_ttl


class Effects:
    """The claims; `broker` makes a client.

    They are kept for `ttl` seconds, in which the job can come back, and for ENDED_TTL when it has
    ended well.
    """

    def __init__(self, broker: Callable[[], Broker], ttl: int) -> None:
        self.ttl = ttl
        self._broker = cache(broker)
        self._clock = BrokerClock()

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Return those of the broker that `settings` name."""

        def named() -> Broker:
            url = settings.redis("broker")
            return Broker(Redis.from_url(url, socket_connect_timeout=1, socket_timeout=5))

        return cls(named, claim_ttl(settings))

    def claim(
        self, job_id: str, step: str, fence: int, policy: Uncertain, repeatable: float = 0
    ) -> Claim:
        """Return the claim on an effect that is to be done now, or was settled before.

        For `repeatable` seconds after it was first claimed, the effect may be done again whatever
        the policy. Raises GuardUnavailableError, and nothing is claimed; UncertainEffectError, when
        the policy is "dead-letter"; StaleRunError.
        """
        again_for = ALWAYS if policy == "retry" else int(repeatable * 1000)
        claim = Claim(job_id, step)
        answer, *more = self._ask(claim, fence, again_for)
        match answer:
            case b"claimed":
                return claim
            case b"settled":
                return Claim(job_id, step, more[0].decode())
            case b"uncertain":
                raise UncertainEffectError(_advice(claim, since=float(more[0])))
            case b"stale":
                raise StaleRunError(f"a newer run has the effect {step!r} of job {job_id}")
            case _:
                self._clock.forget()
                raise GuardUnavailableError("the broker answered too late")

    def _ask(self, claim: Claim, fence: int, again_for: int) -> list[bytes]:
        try:
            broker = self._broker()
            script = broker.client.register_script(CLAIM)
            latest = self._clock.in_(CLAIM_WITHIN, broker.client)
        except (RedisError, OperationalError) as error:
            raise self._away(error) from error
        words: list[Word] = [claim.step, claim.token, latest, fence, self.ttl, again_for]
        try:
            return cast("list[bytes]", script(keys=[_key(broker, claim.job_id)], args=words))
        except RedisError as error:
            # The claim may have been made and its answer lost; nothing will be done under it.
            self._note(RELEASE, claim)
            raise self._away(error) from error

    def _away(self, error: Exception) -> GuardUnavailableError:
        self._clock.forget()
        return GuardUnavailableError(f"the broker is away: {error}")

    def do(
        self, claim: Claim, act: Callable[[], Any], released_by: tuple[type[Exception], ...]
    ) -> Any:
        """Do what was claimed and settle it; return what it gave, or gave to the run that did it.

        An error of `released_by` says that nothing happened; any other leaves it uncertain.
        """
        if claim.value is not None:
            return json.loads(claim.value)
        try:
            value = json.dumps(act())
        except released_by:
            self._note(RELEASE, claim)
            raise
        if self._note(SETTLE, claim, self.ttl, value) == 0:
            raise StaleRunError(f"a newer run has claimed {claim.step!r} of job {claim.job_id}")
        return json.loads(value)

    def _note(self, script: str, claim: Claim, *more: Word) -> int | None:
        """Run a script that does no harm when it is run twice; None where the broker stays away.

        Then it gives up and says so in the log only, because what has happened has happened, and
        the job had better go on. Should it run once more, the effect is uncertain.
        """
        broker = self._broker()
        note = broker.client.register_script(script)
        keys = [_key(broker, claim.job_id)]
        words: list[Word] = [claim.step, claim.token, *more]
        give_up_at = monotonic() + NOTE_FOR
        while True:
            try:
                return cast("int", note(keys=keys, args=words))
            except RedisError as error:
                if monotonic() > give_up_at:
                    logger.error(
                        "an effect stays uncertain: the broker is away",
                        job_id=claim.job_id,
                        step=claim.step,
                        error=str(error),
                    )
                    return None
            sleep(NOTE_INTERVAL)

    def ended(self, job_id: str) -> None:
        """Say that the job has ended well, so that its claims need not be kept for long."""
        broker = self._broker()
        with suppress(RedisError):
            broker.client.expire(_key(broker, job_id), min(ENDED_TTL, self.ttl))

    # What a person decides about an uncertain effect. Both may raise RedisError.

    def happened(self, job_id: str, step: str, value: str) -> bool:
        """Settle an uncertain effect with a value in JSON; False where there is none."""
        broker = self._broker()
        key = _key(broker, job_id)
        names = [f"{step}:token", f"{step}:value"]
        token, settled = cast("list[bytes | None]", broker.client.hmget(key, names))
        if token is None or settled is not None:
            return False
        settle = broker.client.register_script(SETTLE)
        return bool(settle(keys=[key], args=[step, token, self.ttl, value]))

    def did_not_happen(self, job_id: str, step: str) -> bool:
        """Release an uncertain effect, so that a later run has it; False where there is none."""
        broker = self._broker()
        forget = broker.client.register_script(FORGET)
        return bool(forget(keys=[_key(broker, job_id)], args=[step]))


def _key(broker: Broker, job_id: str) -> str:
    return f"{broker.keys.prefix}penstock:effects:{job_id}"


def _advice(claim: Claim, since: float) -> str:
    begun = datetime.fromtimestamp(since / 1000, UTC).isoformat(timespec="seconds")
    words = f"{claim.job_id} {claim.step}"
    return (
        f"the effect {claim.step!r} was begun at {begun} and may have happened or not: look for it"
        f" where it would show, say what you found with `penstock effects happened {words}` or"
        f" `penstock effects did-not-happen {words}`, and replay the job"
    )
