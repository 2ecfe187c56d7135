"""A Redis transport on kombu's own, which loses nothing; URLs stay redis://, rediss://, sentinel://.

Each override names the behaviour of kombu 5.7.0 (kombu/transport/redis.py) that it replaces, so
that it can be dropped when that changes there.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from queue import Empty
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, cast

import structlog
from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.retry import Retry

from penstock import outcomes
from penstock.broker import TAKE, Broker, Keys, refuses_writes
from penstock.custody import Custody, Holding
from penstock.envelope import Envelope, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.gate import Gate

logger = structlog.get_logger(__name__)

# Seconds that a worker of several queues waits for one of them before it looks at all again.
TURN = 0.2
# Seconds after which it looks whether a job has made room, where no event tells it.
ROOM = 0.02
# Seconds for which a full server is not asked to block, which it would refuse at once; nor is one
# that refused for another reason, such as a queue that is no list.
FULL = 5.0
# What a server says that has become a replica, to who waits and to who asks.
NO_MASTER = ("UNBLOCKED", "MASTERDOWN")
# Seconds from which on a delay is kept in the broker and not in a worker's memory.
DURABLE_FROM = 1.0

_custodies: dict[tuple[Any, ...], Custody] = {}


def register() -> None:
    """Make this the transport of redis://, rediss:// and sentinel:// in this process."""
    TRANSPORT_ALIASES.update(
        redis="penstock.transport:Transport",
        rediss="penstock.transport:Transport",
        sentinel="penstock.transport:SentinelTransport",
    )


def custodies() -> list[Custody]:
    """Return what this process holds, one custody for each broker it takes from."""
    return list(_custodies.values())


class QoS(redis.QoS):
    """Ends deliveries through the custody.

    Replaces unacked and unacked_index: kombu records a delivery there only after it was popped, and
    gives it up with its connection.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a delivery against the prefetch limit; the broker has it recorded already."""
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """End a delivery, on whatever connection there is."""
        custody: Custody = self.channel.custody
        if self.channel.takes_soon:
            custody.done_soon(delivery_tag)
        else:
            custody.done(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Deliver the message again, counted, or put it among the dead letters."""
        custody: Custody = self.channel.custody
        keys, worker = custody.broker.keys, custody.consumer
        if requeue:
            custody.settle(
                delivery_tag,
                lambda it: outcomes.again(
                    keys, it.holding.source, it.item, worker, "the process that ran it was lost"
                ),
            )
        else:
            custody.settle(
                delivery_tag,
                lambda it: outcomes.dead(
                    keys, it.holding.source, it.item, "rejected", "was rejected", worker
                ),
            )
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Do nothing: a closed connection gives nothing up, and running jobs are not run twice."""
        self._on_collect.cancel()

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Do nothing: leases are swept by workers and the scheduler, never by a control client."""


# To the type checker this is one of kombu's channels, which have no types of their own.
_Kombu: Any = object


class _Leasing(_Kombu):
    """What is the same with and without Sentinel."""

    QoS = QoS

    def __init__(self, *args: Any, **options: Any) -> None:
        # Consumed without acknowledgement: replies to control commands.
        self._unacked_queues: set[str] = set()
        # The holding of each list that this channel takes from.
        self._own: dict[str, Holding] = {}
        # The command whose answer is awaited; empty when it is kombu's own.
        self._asked = ""
        # The deliveries that were ended with it, whose answers come before its own.
        self._ended: list[str] = []
        self._awaited = ""
        self._looked = False
        self._turn = 0
        self._full_until = 0.0
        super().__init__(*args, **options)

    # Connections

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Replaces a new client object for every command, which costs more than the command."""
        if client is not None:
            yield client
            return
        kept = self.__dict__.get("_kept")
        if kept is None or kept.connection_pool is not self.pool:
            kept = self._kept = self._create_client()
        yield kept

    @cached_property
    def custody(self) -> Custody:
        """What this process holds of this channel's broker; known also when the connection is gone.

        One for each broker: connections come and go, what this process holds does not.
        """
        info = self.connection.client
        where = (info.hostname, info.port, info.virtual_host, self.global_keyprefix)
        if where not in _custodies:
            _custodies[where] = Custody(self.lasting_broker())
        return _custodies[where]

    def lasting_broker(self) -> Broker:
        """Return the broker, on connections that outlive the channel and never wait long."""
        pool = self._get_pool()
        pool.connection_kwargs.update(
            socket_timeout=self.socket_timeout or 5,
            socket_connect_timeout=self.socket_connect_timeout or 2,
            retry=Retry(NoBackoff(), 0),
            # An error's text may have halves of characters, which cannot be sent.
            encoding_errors="replace",
        )
        return Broker(Redis(connection_pool=pool), self.global_keyprefix)

    # Taking

    def basic_consume(self, queue: str, no_ack: bool = False, *args: Any, **options: Any) -> Any:
        """Note which queues are consumed without acknowledgement: replies to control commands."""
        if no_ack:
            self._unacked_queues.add(queue)
        else:
            # Made while there is a connection to learn its parameters from.
            assert self.custody
        return super().basic_consume(queue, no_ack, *args, **options)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Replaces BRPOP, after which a message is nowhere until the worker has recorded it."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        if self._unacked_queues.issuperset(queues):
            self._asked = ""
            super()._brpop_start(timeout)
            return
        words = self._next_take(self._sources(queues))
        self._asked = words[0]
        self._in_poll = connection = self.client.connection
        self._brpop_sent_at = monotonic()
        # Those of a connection that broke before it answered.
        self.custody.unheard(self._ended)
        ends = self.custody.telling()
        self._ended = list(ends)
        connection.send_packed_command(connection.pack_commands([*ends.values(), words]))

    @property
    def takes_soon(self) -> bool:
        """Whether the event loop comes to this channel before it waits for anything."""
        return not self.closed and self.connection.cycle.looping and bool(self._active_queues)

    def _sources(self, queues: list[str]) -> list[str]:
        """Return the lists of the queues, each with a holding to take into."""
        sources = [
            self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues
        ]
        if missing := [source for source in sources if source not in self._own]:
            self._own.update(self.custody.open(missing))
        return sources

    def _next_take(self, sources: list[str]) -> list[Any]:
        """Return the command that takes next, or waits for something to take.

        A move that blocks knows one list. With several of them all are looked at, and then one in
        turn is waited for. A full server refuses to block in a move, so there it is only looked.
        """
        keys = self.custody.broker.keys
        full = monotonic() < self._full_until
        if (len(sources) > 1 or full) and not self._looked:
            self._looked = True
            return ["EVAL", *self._take_at_once(sources)]
        self._looked = False
        if full:
            return ["BLPOP", f"{keys.prefix}penstock:nothing", TURN]
        self._turn += 1
        self._awaited = sources[self._turn % len(sources)]
        wait = self.brpop_timeout if len(sources) == 1 else TURN
        holding = self._own[self._awaited]
        return ["BLMOVE", keys.queue(self._awaited), holding.key, "RIGHT", "LEFT", wait]

    def _take_at_once(self, sources: list[str]) -> list[Any]:
        queues = [self.custody.broker.keys.queue(source) for source in sources]
        holdings = [self._own[source].key for source in sources]
        return [TAKE, 2 * len(sources), *queues, *holdings]

    def _brpop_read(self, **options: Any) -> bool:
        """Replaces reading BRPOP's answer; raises Empty where nothing was taken."""
        asked = self._asked
        if not asked:
            return bool(super()._brpop_read(**options))
        connection = self.client.connection
        try:
            self._hear_ends(connection)
            if not connection.can_read(timeout=0):
                return False
            answer = self.client.parse_response(connection, asked, **options)
        except ResponseError as error:
            if isinstance(error, ReadOnlyError) or str(error).startswith(NO_MASTER):
                # Another server is the master by now, and has to be looked for.
                connection.disconnect()
                self._in_poll = None
                raise RedisConnectionError(str(error)) from error
            if not refuses_writes(error):
                logger.error("a queue cannot be read", queue=self._awaited, error=str(error))
            self._full_until = monotonic() + FULL
            if asked == "BLPOP":
                # A server whose disk is full refuses even to wait.
                sleep(TURN)
            answer = None
        except self.connection_errors:
            connection.disconnect()
            self._in_poll = None
            raise
        self._in_poll = None
        self._flush_brpop_reauth()
        if answer is None or asked == "BLPOP":
            raise Empty
        self._looked = False
        source, item = self._taken(answer) if asked == "EVAL" else (self._awaited, answer)
        queue = source.rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        raw = self._accept(source, item)
        if raw is None:
            raise Empty
        tag = raw["properties"]["delivery_tag"]
        if queue not in self.connection._callbacks:
            # Cancelled while the answer was on its way.
            self.custody.give_back(tag)
            raise Empty
        if queue in self._unacked_queues:
            self.custody.done(tag)
        self.connection._deliver(raw, queue)
        return True

    def _hear_ends(self, connection: Any) -> None:
        while self._ended:
            tag = self._ended[0]
            try:
                self.custody.heard(tag, self.client.parse_response(connection, "LREM"))
            except ResponseError:
                self.custody.unheard([tag])
            del self._ended[0]

    def _taken(self, answer: list[bytes]) -> tuple[str, bytes]:
        key, item = answer
        return key.decode().removeprefix(self.custody.broker.keys.prefix), item

    def _accept(self, source: str, item: bytes) -> dict[str, Any] | None:
        """Return the message that was taken, with a tag of our own; None where it is none to run.

        Replaces json.loads and a KeyError, which end the worker or its connection.
        """
        custody = self.custody
        keys = custody.broker.keys
        tag = custody.took(self._own[source], item)
        try:
            envelope = Envelope.decode(item)
        except MalformedError as error:
            reason = str(error)
            logger.error("a message cannot be read", queue=source, error=reason)
            custody.settle(
                tag,
                lambda it: outcomes.dead(
                    keys, source, it.item, "undecodable", reason, custody.consumer
                ),
            )
            return None
        due = envelope.due
        if due is not None and due - time() > DURABLE_FROM:
            # Published by a client without this transport.
            custody.settle(tag, lambda it: outcomes.not_yet(keys, source, it.item, due))
            return None
        envelope.raw["properties"]["delivery_tag"] = tag
        return envelope.raw

    def _get(self, queue: str) -> dict[str, Any]:
        """Replaces RPOP in basic_get, for the same reason as BRPOP."""
        sources = self._sources([queue])
        answer = self.custody.broker.client.eval(*self._take_at_once(sources))
        raw = self._accept(*self._taken(cast("list[bytes]", answer))) if answer else None
        if raw is None:
            raise Empty
        return raw

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        """End the delivery at once where nobody will."""
        message = super().basic_get(queue, no_ack=no_ack, **options)
        if message is not None and no_ack:
            self.custody.done(message.delivery_tag)
        return message

    # Publishing

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        """Replaces holding what is not due in a worker's memory, where it dies with the worker.

        A message that comes with a gate has to pass it; see `penstock.gate`.
        """
        gate: Gate | None = message["properties"].pop("gate", None)
        due = _due(message)
        if gate is None and due is None:
            super()._put(queue, message, **options)
            return
        keys = Keys(self.global_keyprefix)
        source = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        if gate is not None:
            gate.admit(self._bare_client(), keys, source, json.dumps(message))
            return
        assert due is not None
        message["headers"]["eta"] = None
        with self._bare_client().pipeline() as pipe:
            pipe.sadd(keys.delayed_queues, source)
            pipe.zadd(keys.delayed(source), {json.dumps(message): int(due * 1000)})
            pipe.execute()

    def _bare_client(self) -> Redis:
        """Return a client that adds no prefix to keys, on this channel's connections."""
        kept: Redis | None = self.__dict__.get("_bare")
        if kept is None or kept.connection_pool is not self.pool:
            kept = self._bare = Redis(connection_pool=self.pool)
        return kept

    # Ending

    def close(self) -> None:
        """Replaces reading the last answer and giving back what is held.

        An answer that was not read yet is found in the holding, when nothing more can come.
        """
        self._in_poll = None
        if self._own:
            self.custody.unheard([*self._ended, *self.custody.telling()])
            self._ended = []
            self.custody.abandon(self._own.values())
            self._own = {}
        super().close()


def _due(message: dict[str, Any]) -> float | None:
    """Return when a message is due, in seconds since 1970; None where that is now."""
    headers = message.get("headers")
    eta = headers.get("eta") if isinstance(headers, dict) else None
    if not eta:
        return None
    moment = datetime.fromisoformat(eta)
    due = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return due if due - time() > DURABLE_FROM else None


class Channel(_Leasing, redis.Channel):
    """kombu's Redis channel, with leases."""


class SentinelChannel(_Leasing, redis.SentinelChannel):
    """kombu's Redis channel behind Sentinel, with leases."""


class _Poller(redis.MultiChannelPoller):  # type: ignore[misc]
    """kombu's poller; `looping` is whether an event loop drives it."""

    looping = False

    def on_poll_start(self) -> None:
        """Take, and end what is done; see `Custody.done_soon`."""
        super().on_poll_start()
        for custody in custodies():
            custody.end_done()


class _Looping(_Kombu):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cycle = _Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        self.cycle.looping = True

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Replaces waiting for the whole timeout while all places of a pool of greenlets are taken.

        A job that ends makes room, and nothing wakes who waits to look.
        """
        taken = any(it.active_queues and not it.qos.can_consume() for it in self.channels)
        super().drain_events(connection, timeout=min(timeout or ROOM, ROOM) if taken else timeout)


class Transport(_Looping, redis.Transport):
    """kombu's Redis transport, with leases."""

    Channel = Channel


class SentinelTransport(_Looping, redis.SentinelTransport):
    """kombu's Redis transport behind Sentinel, with leases."""

    Channel = SentinelChannel


# A process that was forked off holds nothing: what its parent holds has the parent's lease.
os.register_at_fork(after_in_child=_custodies.clear)
