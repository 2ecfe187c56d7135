"""What this worker holds: deliveries that it took and has not ended, and the leases on them.

A worker has one lease, on everything it holds, and renews it on the broker's clock from a thread
of its own: whatever the main loop does (a job in the solo pool, a shutdown that waits, a lost
connection), the lease goes on as long as the process is alive. When the process is not, the lease
ends by itself and other workers take over what it held.

What is held does not belong to a connection. It is ended by its content in the broker, so a job
that finishes while the broker is away is ended later, on another connection.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from socket import gethostname
from threading import Event, Lock, Thread
from time import monotonic
from uuid import uuid4

import structlog
from redis import RedisError, ResponseError

from penstock.broker import Broker, Command
from penstock.envelope import Envelope

logger = structlog.get_logger(__name__)

# Seconds that a lease lasts, in which it is renewed three times, and at most between two looks at
# what is left to do.
LEASE = 15.0
TICK = 0.5
# Seconds after which a connection that was dropped cannot take anything any more: the server ends
# a blocking take after one second, whether or not anyone is there to hear of it.
SETTLED_AFTER = 3.0


@dataclass(eq=False)
class Holding:
    """The list in the broker that one connection takes from `source` into."""

    key: str
    source: str
    items: dict[str, bytes] = field(default_factory=dict)
    abandoned_at: float | None = None


@dataclass(frozen=True)
class Delivery:
    """A message that was taken: `item` is what the broker holds, to the byte."""

    holding: Holding
    item: bytes


class Custody:
    """The deliveries of this process and the thread that keeps them.

    Delivery tags are this process's own: two messages may well claim the same one.
    """

    def __init__(self, broker: Broker, *, lease: float = LEASE, name: str = "") -> None:
        self.broker = broker
        self.lease = lease
        self.consumer = f"{name or gethostname()}~{uuid4().hex[:8]}".replace(":", "_")
        # Seconds on the monotonic clock: when the broker last renewed the lease, and confirmed it.
        self.renewed_at = monotonic()
        self.lapses = 0
        self._numbers = count(1)
        self._holdings: list[Holding] = []
        self._deliveries: dict[str, Delivery] = {}
        self._late: deque[Callable[[], object]] = deque()
        # The tags of what is done and is told to the broker with the next command.
        self._done: list[str] = []
        self._lock = Lock()
        self._stopping = Event()
        self._thread: Thread | None = None

    # Taking

    def open(self, sources: Iterable[str]) -> dict[str, Holding]:
        """Return a new, leased holding for each source; may raise RedisError.

        The lease comes first: what is put into a list that nobody leases, nobody would find.
        """
        opened = [
            Holding(self.broker.keys.holding(self.consumer, next(self._numbers), source), source)
            for source in sources
        ]
        self.broker.renew([holding.key for holding in opened], self.lease)
        with self._lock:
            self._holdings.extend(opened)
        if self._thread is None:
            self._thread = Thread(target=self._keep, name="penstock-custody", daemon=True)
            self._thread.start()
        return {holding.source: holding for holding in opened}

    def abandon(self, holdings: Iterable[Holding]) -> None:
        """Say that the connection which took into these holdings is gone.

        What it took without our hearing of it is given back when it can take no more; what we know
        of stays ours until it is ended.
        """
        for holding in holdings:
            holding.abandoned_at = monotonic()

    def took(self, holding: Holding, item: bytes) -> str:
        """Note a delivery and return its tag."""
        tag = uuid4().hex
        with self._lock:
            holding.items[tag] = item
            self._deliveries[tag] = Delivery(holding, item)
        return tag

    def item(self, tag: str) -> bytes | None:
        """Return what was delivered under the tag, or None when it has ended."""
        delivery = self._deliveries.get(tag)
        return delivery.item if delivery else None

    @property
    def holds(self) -> int:
        """How many deliveries have not been ended in the broker."""
        return len(self._deliveries)

    # Ending

    def done(self, tag: str) -> None:
        """End a delivery; its job needs nothing more. A second end of the same changes nothing."""
        self.settle(tag, lambda _: ())

    def settle(self, tag: str, commands: Callable[[Delivery], Iterable[Command]]) -> None:
        """End a delivery and run the commands in the same step.

        When the broker is away this is done as soon as it is back. When the lease was lost and
        another worker has the job, nothing is done: the other one's end counts.
        """
        with self._lock:
            delivery = self._deliveries.get(tag)
        if delivery is None:
            return
        end = partial(self._end, tag, delivery, list(commands(delivery)))
        if self._late:
            self._late.append(end)
            return
        try:
            end()
        except RedisError as error:
            logger.warning("the broker is away; the job is ended later", error=str(error))
            self._late.append(end)

    def _end(self, tag: str, delivery: Delivery, commands: Iterable[Command] = ()) -> None:
        held = self.broker.settle(delivery.holding.key, delivery.item, commands)
        self._ended(tag, delivery, held)

    def _ended(self, tag: str, delivery: Delivery, held: bool) -> None:
        if not held:
            logger.warning("the lease was lost before the job ended", **_named(delivery.item))
        with self._lock:
            self._deliveries.pop(tag, None)
            delivery.holding.items.pop(tag, None)

    # Ending with a command that is sent anyway, which saves the main loop a wait for each job.

    def done_soon(self, tag: str) -> None:
        """End a delivery, as `done`, with the next command; the caller sees that one follows."""
        if tag in self._deliveries:
            self._done.append(tag)

    def end_done(self) -> None:
        """End what is done and no other command was sent to tell with."""
        while self._done:
            self.done(self._done.pop())

    def telling(self) -> dict[str, Command]:
        """Return the commands that end what is done, by its tags; they are the caller's to send.

        It says `heard` for each answer, and `unheard` where there is none.
        """
        tags, self._done = self._done, []
        return {
            tag: self.broker.ending(delivery.holding.key, delivery.item)
            for tag in tags
            if (delivery := self._deliveries.get(tag))
        }

    def heard(self, tag: str, held: int) -> None:
        """Note the broker's answer: how many deliveries it ended."""
        if delivery := self._deliveries.get(tag):
            self._ended(tag, delivery, bool(held))

    def unheard(self, tags: Iterable[str]) -> None:
        """End later what may have been ended or not; to end it twice changes nothing."""
        for tag in tags:
            if delivery := self._deliveries.get(tag):
                self._late.append(partial(self._end, tag, delivery))

    def give_back(self, tag: str) -> None:
        """Put a delivery that was not started back to where it was, first in line, uncounted."""
        self.settle(tag, lambda delivery: [self._return(delivery.holding, delivery.item)])

    def _return(self, holding: Holding, item: bytes) -> Command:
        return ("RPUSH", self.broker.keys.queue(holding.source), item)

    # Keeping

    def _keep(self) -> None:
        next_renewal = 0.0
        while not self._stopping.wait(min(TICK, self.lease / 6)):
            try:
                if monotonic() >= next_renewal:
                    next_renewal = monotonic() + self.lease / 3
                    self._renew()
                    self._tidy()
                self._end_late()
            except RedisError as error:
                logger.warning("the lease was not renewed", error=str(error))
                next_renewal = 0.0
            except Exception:
                # This thread must outlive every surprise: without it the worker loses its jobs.
                logger.exception("keeping the leases failed")

    def _end_late(self) -> None:
        for _ in range(len(self._late)):
            try:
                self._late[0]()
            except ResponseError as error:
                # The broker refuses this one, as when its queue is no list: not before the others.
                logger.error("the broker does not let a job end", error=str(error))
                self._late.append(self._late[0])
            self._late.popleft()

    def _renew(self) -> None:
        with self._lock:
            keys = [holding.key for holding in self._holdings]
        lapsed = self.broker.renew(keys, self.lease) if keys else 0
        if lapsed:
            self.lapses += 1
            logger.warning(
                "the lease had ended; other workers may have taken over", since=self.renewed_at
            )
        self.renewed_at = monotonic()

    def _tidy(self) -> None:
        """Empty the holdings of dropped connections of what was taken unheard."""
        for holding in list(self._holdings):
            dropped = holding.abandoned_at
            if dropped is None or monotonic() - dropped < SETTLED_AFTER:
                continue
            self._give_back_unheard(holding)
            if not holding.items:
                with self._lock:
                    self._holdings.remove(holding)

    def _give_back_unheard(self, holding: Holding) -> None:
        unheard = self.broker.held(holding.key)
        for item in list(holding.items.values()):
            if item in unheard:
                unheard.remove(item)
        for item in unheard:
            self.broker.settle(holding.key, item, [self._return(holding, item)])

    def close(self) -> None:
        """Stop keeping and give back whatever is still held; another worker begins with it at once.

        The leases are left to end by themselves, for the case that a dropped connection takes
        something in this very moment.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)
        self.unheard(self.telling())
        try:
            while self._late:
                self._late.popleft()()
            for tag in list(self._deliveries):
                self.give_back(tag)
            for holding in self._holdings:
                self._give_back_unheard(holding)
        except RedisError as error:
            logger.warning("not everything was given back; its lease ends soon", error=str(error))

    def forget(self) -> None:
        """Hold nothing any more, in a process that was forked off the one that does."""
        self.__dict__.clear()


def _named(item: bytes) -> dict[str, str]:
    envelope = Envelope.decode(item)
    return {"job": envelope.job, "job_id": envelope.job_id}
