"""What workers do for their queues and the scheduler for all: what is due, what was left behind.

Every move is one step in the broker, so it does no harm that many do this at once. A worker leaves
other queues alone, since its user in Redis may not be allowed to touch them; nobody but those who
serve a queue could run its jobs anyway.
"""

import json
from collections.abc import Collection
from math import inf
from random import uniform
from threading import Event, Thread
from time import monotonic
from typing import cast

import structlog
from redis import ConnectionError as RedisConnectionError
from redis import RedisError, ResponseError
from redis import TimeoutError as RedisTimeoutError

from penstock import outcomes
from penstock.broker import Broker
from penstock.custody import LEASE
from penstock.dead_letters import DeadLetters
from penstock.records import Records

logger = structlog.get_logger(__name__)

# Seconds between two rounds of each.
DUE_INTERVAL = 0.5
SWEEP_INTERVAL = 2.0
RETENTION_INTERVAL = 60.0
# Seconds for which the broker may be away without a lease ending: one has longer to go at any time.
BREAK = 6.0
# Deliveries taken over in one round, and seconds for which an empty holding is remembered.
SWEPT_AT_ONCE = 200
FORGET_AFTER = 3600.0


class Housekeeper:
    """A thread that does it until it is told to stop, for `queues` or for all there are.

    Dead letters are dropped that are older than `dead_ttl` seconds, and the oldest of more than
    `dead_max`.
    """

    def __init__(
        self,
        broker: Broker,
        records: Records,
        *,
        queues: Collection[str] = (),
        lease: float = LEASE,
        dead_ttl: float = inf,
        dead_max: float = inf,
    ) -> None:
        self.broker = broker
        self.records = records
        self.queues = queues
        self.letters = DeadLetters(broker)
        self.dead_ttl = dead_ttl
        self.dead_max = dead_max
        self.lease = lease
        self._stopping = Event()
        self._thread = Thread(target=self._keep, name="penstock-housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the round that is going on."""
        self._stopping.set()
        self._thread.join(5)

    def _keep(self) -> None:
        next_sweep = next_retention = 0.0
        # Many that start together do not go on together.
        while not self._stopping.wait(DUE_INTERVAL * uniform(0.8, 1.2)):  # noqa: S311
            try:
                self.move_due()
                self.deliver_notes()
                if monotonic() >= next_sweep:
                    next_sweep = monotonic() + SWEEP_INTERVAL
                    self.sweep()
                if monotonic() >= next_retention:
                    next_retention = monotonic() + RETENTION_INTERVAL
                    if self.letters.expire(self.dead_ttl, self.dead_max):
                        next_retention = 0.0
            except RedisError as error:
                logger.warning("the broker is away", error=str(error))
            except Exception:
                # Without this thread nothing is recovered, so it outlives every surprise.
                logger.exception("housekeeping failed")

    def move_due(self) -> int:
        """Put into their queues what is due; return how many that were."""
        moved = 0
        for queue in self.broker.delayed_queues(self.queues):
            try:
                while at_once := self.broker.move_due(queue):
                    moved += at_once
            except ResponseError as error:
                # What is wrong with one queue is no matter of the others.
                logger.error("what is due stays where it is", queue=queue, error=str(error))
        return moved

    def sweep(self) -> int:
        """Take over what workers hold whose leases are over; return how many deliveries.

        Not before the broker has been reached without a break for as long as a lease lasts: after
        an outage every lease looks over, and the workers that are alive must get to renew theirs.
        By whom it was reached does not matter, or workers that end soon would never sweep.
        """
        if self.broker.reached_for(BREAK) < self.lease:
            return 0
        swept = 0
        for holding, item in self.broker.expired(
            SWEPT_AT_ONCE, FORGET_AFTER, max(self.lease, LEASE), self.queues
        ):
            worker, source = self.broker.keys.of_holding(holding)
            commands = outcomes.again(
                self.broker.keys, source, item, worker, "the worker was lost: its lease ended"
            )
            try:
                swept += self.broker.sweep(holding, item, commands)
            except ResponseError as error:
                logger.error("a lost worker keeps what it had", queue=source, error=str(error))
        if swept:
            logger.warning("took over from lost workers", deliveries=swept)
        return swept

    def deliver_notes(self) -> int:
        """Bring what waits in the outbox to the records; return how much.

        A note is removed after it was written; written twice it changes nothing, since a record
        hears a run's end only once.
        """
        outbox, delivered = self.broker.keys.outbox, 0
        while waiting := cast("list[bytes]", self.broker.client.lrange(outbox, 0, 99)):
            for note in waiting:
                try:
                    self.records.apply(json.loads(note))
                except (RedisConnectionError, RedisTimeoutError, ResponseError) as error:
                    logger.warning("the results are away", error=str(error))
                    return delivered
                except Exception:
                    # It would hold up all that come after it, for ever.
                    logger.exception("a note cannot be written and is dropped", note=note)
                self.broker.client.lrem(outbox, 1, cast("str", note))
                delivered += 1
        return delivered
