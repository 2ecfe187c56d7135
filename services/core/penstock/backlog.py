"""How much there is to do: the figures that autoscalers, alerts and operators go by.

They are read when they are asked for, all in one step of the broker, so a job that moves meanwhile
is counted once and in one place. That takes a few reads for each queue and one for each connection
of a worker, however many jobs there are.
"""

from collections.abc import Sequence
from typing import Any, Self, cast

import structlog
from pydantic import BaseModel
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from penstock.broker import NOW, Broker
from penstock.catalogue import BY_QUEUE
from penstock.envelope import Envelope, MalformedError
from penstock.producer import PATIENCE
from penstock.records import Records
from penstock.settings import Settings

logger = structlog.get_logger(__name__)

# KEYS: leases, then for each queue its list, its delayed set and its dead letters. ARGV: the names
# of the queues. Returns the time in ms, and for each queue the figures and what is next in it.
FIGURES = (
    NOW
    + """
local of, all = {}, {}
for i, name in ipairs(ARGV) do
  local queue, delayed, letters = unpack(KEYS, 3 * i - 1, 3 * i + 1)
  local due = redis.call('ZCOUNT', delayed, '-inf', now)
  all[i] = {
    redis.call('LLEN', queue), 0, redis.call('ZCARD', delayed) - due, due,
    redis.call('ZCARD', letters), 0, redis.call('LINDEX', queue, -1)
  }
  of[name] = all[i]
end
local seen = {}
local leases = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  local consumer, source = leases[i]:match('penstock:held:([^:]*):[^:]*:(.*)$')
  local figures = of[source]
  if figures then
    figures[2] = figures[2] + redis.call('LLEN', leases[i])
    if tonumber(leases[i + 1]) >= now and not seen[consumer .. ':' .. source] then
      seen[consumer .. ':' .. source] = true
      figures[6] = figures[6] + 1
    end
  end
end
return {now, all}
"""
)


class Figures(BaseModel):
    """How many jobs of a queue are where; each job is counted in one of the first five.

    `waiting` are in the queue, cancelled ones too until a worker comes to them. `running` were
    taken by a worker and have not ended, also those of a lost worker until they are taken over.
    `delayed` are for later, `due` were and are about to be put into the queue. `dead` are dead
    letters. `backlog` is the work there is now: waiting + running + due.

    `workers` are those with a live lease on the queue; one that stopped is counted for as long as
    its lease lasts. `oldest_age` is the seconds for which the job that is next has waited: since it
    was accepted, or since its retry was due. None where nothing waits or no record tells.
    """

    queue: str
    waiting: int
    running: int
    delayed: int
    due: int
    dead: int
    backlog: int
    workers: int
    oldest_age: float | None


class Backlog:
    """Reads the figures. `records` tell since when the oldest job waits."""

    def __init__(self, broker: Broker, records: Records) -> None:
        self.broker = broker
        self.records = records
        self._figures = broker.client.register_script(FIGURES)

    @classmethod
    def connect(cls, settings: Settings, records: Records) -> Self:
        """Return that of the broker that `settings` name; it is connected to when it is needed.

        A broker that does not answer is given up within a second.
        """
        client = Redis.from_url(
            settings.redis("broker"),
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(Broker(client), records)

    def read(self, queues: Sequence[str] = tuple(BY_QUEUE)) -> list[Figures]:
        """Return the figures of these queues, in their order; may raise RedisError."""
        keys = self.broker.keys
        names = [
            name
            for queue in queues
            for name in (keys.queue(queue), keys.delayed(queue), keys.letters(queue=queue))
        ]
        answer = self._figures(keys=[keys.leases, *names], args=list(queues))
        now, rows = cast("tuple[int, list[list[Any]]]", answer)
        since = self._waiting_since([row[-1] for row in rows])
        return [
            Figures(
                queue=queue,
                waiting=waiting,
                running=running,
                delayed=delayed,
                due=due,
                dead=dead,
                backlog=waiting + running + due,
                workers=workers,
                oldest_age=None if began is None else max(0.0, now / 1000 - began),
            )
            for queue, (waiting, running, delayed, due, dead, workers, _), began in zip(
                queues, rows, since, strict=True
            )
        ]

    def _waiting_since(self, items: list[bytes | None]) -> list[float | None]:
        ids = [_id_of(item) for item in items]
        try:
            return self.records.waiting_since(ids)
        except RedisError as error:
            logger.warning("the results are away; no ages are known", error=str(error))
            return [None] * len(ids)


def _id_of(item: bytes | None) -> str:
    """Return the id of the job in a message, or the empty string."""
    try:
        return Envelope.decode(item).job_id if item else ""
    except MalformedError:
        return ""
