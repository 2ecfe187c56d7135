"""The transport, used through kombu as Celery uses it, on a real Redis server."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.asynchronous import Hub
from messages import encoded
from redis import Redis

from penstock import transport
from penstock.broker import Broker
from penstock.custody import Custody

transport.register()

Received = list[Message]


@pytest.fixture(autouse=True)
def _nothing_is_held_from_another_test() -> Iterator[None]:
    transport._custodies.clear()
    yield
    for custody in transport.custodies():
        custody._stopping.set()


@pytest.fixture(params=["", "prefix:"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"global_keyprefix": request.param, "priority_steps": [0], "socket_timeout": 5}


@pytest.fixture
def broker(redis_url: str, options: dict[str, Any]) -> Broker:
    return Broker(Redis.from_url(redis_url), options["global_keyprefix"])


@pytest.fixture
def connect(redis_url: str, options: dict[str, Any]) -> Iterator[Callable[..., Connection]]:
    opened = []

    def open_(**changes: Any) -> Connection:
        connection = Connection(f"{redis_url}/0", transport_options={**options, **changes})
        opened.append(connection)
        return connection

    yield open_
    for connection in opened:
        connection.release()


def publish(connection: Connection, *bodies: str, queue: str = "email", **headers: Any) -> None:
    producer = Producer(connection.channel())
    for body in bodies:
        producer.publish(
            body,
            routing_key=queue,
            exchange="",
            serializer="json",
            headers={"task": "t", **headers},
        )


def receive(
    connection: Connection, *queues: str, most: int = 1, no_ack: bool = False, wait: float = 2
) -> Received:
    """Consume until `most` messages were received, or `wait` seconds are over."""
    received: Received = []
    channel = connection.channel()
    with Consumer(
        channel,
        [Queue(name, no_declare=True) for name in queues or ("email",)],
        on_message=received.append,
        no_ack=no_ack,
    ):
        deadline = monotonic() + wait
        while len(received) < most and monotonic() < deadline:
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
    return received


def custody() -> Custody:
    [only] = transport.custodies()
    return only


def in_flight(broker: Broker) -> int:
    leases: Any = broker.client.zrange(broker.keys.leases, 0, -1)
    return sum(len(broker.held(lease.decode())) for lease in leases)


def test_a_message_is_in_flight_until_it_is_acknowledged(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "one")
    [message] = receive(connection)

    assert message.payload == "one"
    assert (broker.held(broker.keys.queue("email")), in_flight(broker)) == ([], 1)
    message.ack()
    assert in_flight(broker) == 0


def test_a_message_can_be_acknowledged_after_its_connection_is_gone(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "one")
    [message] = receive(connection)
    connection.close()

    assert in_flight(broker) == 1
    message.ack()
    assert in_flight(broker) == 0
    assert broker.held(broker.keys.queue("email")) == []


def test_a_worker_of_several_queues_takes_from_all(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    for queue in ("email", "image", "report"):
        publish(connection, f"in {queue}", queue=queue)
    received = receive(connection, "email", "image", "report", most=3)

    assert {message.payload for message in received} == {"in email", "in image", "in report"}
    for message in received:
        message.ack()
    assert in_flight(broker) == 0


@pytest.mark.parametrize("queues", [("email",), ("email", "image")])
def test_messages_of_a_queue_come_in_the_order_they_were_sent(
    connect: Callable[..., Connection], queues: tuple[str, ...]
) -> None:
    connection = connect()
    publish(connection, *map(str, range(20)))

    received = receive(connection, *queues, most=20, wait=5)
    assert [message.payload for message in received] == [str(number) for number in range(20)]


def test_priorities_are_kept(connect: Callable[..., Connection]) -> None:
    connection = connect(priority_steps=[0, 3, 6, 9], queue_order_strategy="priority")
    producer = Producer(connection.channel())
    for priority in (9, 0, 5):
        producer.publish(str(priority), routing_key="email", exchange="", priority=priority)

    received = receive(connection, most=3)
    bodies: list[Any] = [message.body for message in received]
    assert bodies == [b"0", b"5", b"9"]


def test_what_nobody_acknowledges_is_ended_when_it_is_taken(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "reply")

    assert len(receive(connection, no_ack=True)) == 1
    assert in_flight(broker) == 0
    assert transport.custodies() == []


def test_a_message_can_be_fetched_without_a_consumer(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "one", "two")
    channel: Any = connection.channel()
    first = channel.basic_get("email")
    assert first is not None
    assert in_flight(broker) == 1

    channel.basic_ack(first.delivery_tag)
    assert channel.basic_get("email", no_ack=True) is not None
    assert channel.basic_get("email") is None
    assert in_flight(broker) == 0


def test_a_rejected_message_is_a_dead_letter_and_a_requeued_one_comes_again(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "one", id="j-1")
    [message] = receive(connection)
    message.reject(requeue=True)
    [again] = receive(connection)

    assert again.headers["redelivered"]
    again.reject()
    assert broker.client.exists(broker.keys.letter("j-1"))
    assert in_flight(broker) == 0


def test_a_message_due_later_waits_in_the_broker(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "later", eta="2099-01-01T00:00:00+00:00")
    publish(connection, "soon", eta="2001-01-01T00:00:00+00:00")

    assert broker.client.zcard(broker.keys.delayed("email")) == 1
    assert broker.delayed_queues() == ["email"]
    assert [message.payload for message in receive(connection)] == ["soon"]


def test_a_message_due_later_of_a_client_without_this_transport_waits_in_the_broker_as_well(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    later = {"id": "later", "task": "t", "eta": "2099-01-01T00:00:00+00:00"}
    broker.client.lpush(broker.keys.queue("email"), encoded(headers=later))
    publish(connection, "now")

    assert [message.payload for message in receive(connection)] == ["now"]
    assert broker.client.zcard(broker.keys.delayed("email")) == 1
    assert in_flight(broker) == 1


def test_an_item_that_is_no_message_is_a_dead_letter_and_the_next_one_comes(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    key = broker.keys.queue("email")
    for item in (b"\xff", b"{", b"[]", b'{"headers": {}, "properties": {}, "body": ""}', b""):
        broker.client.lpush(key, item)
    publish(connection, "good")

    assert [message.payload for message in receive(connection)] == ["good"]
    dead = broker.client.zcard(f"{broker.keys.prefix}penstock:dead:reason:undecodable")
    assert dead == 5


def test_two_messages_with_the_same_tag_are_two_deliveries(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "one")
    key = broker.keys.queue("email")
    [item] = broker.held(key)
    broker.client.lpush(key, item)
    first, second = receive(connection, most=2)
    first.ack()

    assert in_flight(broker) == 1
    second.ack()
    assert in_flight(broker) == 0


def test_a_full_broker_gives_out_what_it_has(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    publish(connection, "one", "two")
    broker.client.config_set("maxmemory", 1)
    try:
        received = receive(connection, most=2, wait=5)
        for message in received:
            message.ack()
    finally:
        broker.client.config_set("maxmemory", 0)

    assert [message.payload for message in received] == ["one", "two"]
    assert in_flight(broker) == 0


def test_an_answer_that_is_lost_with_its_connection_comes_back(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection = connect()
    receive(connection, wait=0.3)
    [holding] = custody()._holdings
    publish(connection, "unheard")
    broker.client.lmove(broker.keys.queue("email"), holding.key, "RIGHT", "LEFT")
    connection.close()

    assert [message.payload for message in receive(connect(), wait=10)] == ["unheard"]


def test_a_client_that_knows_nothing_of_this_moves_nobodys_messages(
    connect: Callable[..., Connection], broker: Broker, redis_url: str
) -> None:
    connection = connect()
    publish(connection, "one")
    [message] = receive(connection)
    stock = (
        "from kombu import Connection, Consumer, Queue\n"
        "options = {'visibility_timeout': 0}\n"
        f"with Connection('{redis_url}/0', transport_options=options) as c:\n"
        "    channel = c.channel()\n"
        "    channel.qos.restore_visible(interval=1)\n"
        "    with Consumer(channel, [Queue('reply')], no_ack=True):\n"
        "        try: c.drain_events(timeout=1.5)\n"
        "        except TimeoutError: pass\n"
    )
    subprocess.run([sys.executable, "-c", stock], check=True, timeout=30)

    assert in_flight(broker) == 1
    message.ack()


@contextmanager
def looping(connection: Connection, received: Received) -> Iterator[Callable[..., None]]:
    """Consume as a worker does, in an event loop; gives what turns it until something holds."""
    hub = Hub()
    connection.register_with_event_loop(hub)
    channel = connection.channel()
    queue = Queue("email", no_declare=True)
    with closing(hub), Consumer(channel, [queue], on_message=received.append):
        loop = hub.create_loop()

        def turn_until(holds: Callable[[], object]) -> None:
            deadline = monotonic() + 5
            while not holds():
                assert monotonic() < deadline
                next(loop)

        yield turn_until


def test_what_is_done_is_ended_with_the_command_that_takes_the_next(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection, received = connect(), Received()
    publish(connection, "one", "two")
    with looping(connection, received) as turn_until:
        turn_until(lambda: len(received) == 1)
        received[0].ack()
        assert in_flight(broker) == 1
        turn_until(lambda: len(received) == 2)

        assert in_flight(broker) == 1
        assert list(custody()._deliveries) == [received[1].delivery_tag]


def test_what_is_done_is_ended_at_once_while_an_empty_queue_is_waited_for(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection, received = connect(), Received()
    publish(connection, "one")
    with looping(connection, received) as turn_until:
        turn_until(lambda: len(received) == 1)
        channel: Any = received[0].channel
        turn_until(lambda: channel._in_poll)
        waiting = channel._brpop_sent_at
        received[0].ack()
        turn_until(lambda: in_flight(broker) == 0)

        assert (channel._brpop_sent_at, custody()._deliveries) == (waiting, {})


def test_what_was_ended_on_a_connection_that_broke_is_ended_later(
    connect: Callable[..., Connection], broker: Broker
) -> None:
    connection, received = connect(), Received()
    publish(connection, "one")
    with looping(connection, received) as turn_until:
        turn_until(lambda: len(received) == 1)
        channel: Any = received[0].channel
        received[0].ack()
        # As when the connection breaks while the command is on its way.
        custody().broker.client.client_pause(300)
        channel._brpop_start()
        channel.client.connection.disconnect()
    connection.release()
    deadline = monotonic() + 5
    while custody()._deliveries:
        assert monotonic() < deadline

    assert in_flight(broker) == 0
