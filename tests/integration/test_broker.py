"""The moves of a job in a real broker: each is one step, and a job is always in one place."""

from collections.abc import Callable, Iterator
from time import sleep, time
from typing import Any

import pytest
from messages import encoded
from redis import Redis

from penstock import outcomes
from penstock.broker import Broker
from penstock.custody import LEASE as LEASE_OF_ALL
from penstock.custody import Custody
from penstock.envelope import Envelope
from penstock.housekeeping import Housekeeper
from penstock.records import Records, State

LEASE = 0.3


@pytest.fixture(params=["", "prefix-"])
def broker(redis_url: str, request: pytest.FixtureRequest) -> Broker:
    return Broker(Redis.from_url(redis_url), request.param)


@pytest.fixture
def records(redis_url: str, broker: Broker) -> Records:
    return Records(Redis.from_url(f"{redis_url}/1"), lambda: broker, ttl=60)


@pytest.fixture
def custody(broker: Broker) -> Iterator[Custody]:
    custody = Custody(broker, lease=LEASE, name="worker-1")
    yield custody
    custody._stopping.set()


def put(broker: Broker, item: bytes) -> None:
    broker.client.lpush(broker.keys.queue("email"), item)


def take(broker: Broker, custody: Custody) -> str:
    """Take what is next, as the transport does, and return its tag."""
    [holding] = custody.open(["email"]).values()
    item = broker.client.lmove(broker.keys.queue("email"), holding.key, "RIGHT", "LEFT")
    assert isinstance(item, bytes)
    return custody.took(holding, item)


def waiting(broker: Broker) -> list[bytes]:
    return broker.held(broker.keys.queue("email"))


def die(custody: Custody) -> None:
    """End the thread that renews the lease, as the end of the process would."""
    custody._stopping.set()
    assert custody._thread is not None
    custody._thread.join()


def sweep(broker: Broker, records: Records) -> int:
    """Sweep as a worker does that has reached the broker for long enough."""
    keeper = Housekeeper(broker, records, lease=0)
    return keeper.sweep()


def until(condition: Callable[[], bool], limit: float = 5) -> None:
    deadline = time() + limit
    while not condition():
        assert time() < deadline
        sleep(0.02)


def test_a_job_that_is_done_is_nowhere_any_more(broker: Broker, custody: Custody) -> None:
    put(broker, encoded())
    tag = take(broker, custody)
    assert waiting(broker) == []

    custody.done(tag)
    custody.done(tag)
    assert not any(broker.held(holding.key) for holding in custody._holdings)
    assert waiting(broker) == []


def test_a_held_job_stays_with_a_worker_that_is_alive_however_long_it_takes(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    take(broker, custody)

    for _ in range(8):
        sleep(LEASE / 2)
        assert sweep(broker, records) == 0
    assert waiting(broker) == []


def test_a_lost_workers_job_is_first_in_line_again_and_was_delivered_once(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    put(broker, encoded(headers={"id": "j-2", "task": "email.send"}))
    take(broker, custody)
    die(custody)
    until(lambda: sweep(broker, records) == 1)

    envelopes = [Envelope.decode(item) for item in reversed(waiting(broker))]
    assert [envelope.job_id for envelope in envelopes] == ["j-1", "j-2"]
    assert [envelope.deliveries for envelope in envelopes] == [1, 0]
    assert envelopes[0].attempts[0]["worker"].startswith("worker-1")


def test_only_one_of_two_sweepers_takes_a_delivery_over(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    take(broker, custody)
    die(custody)
    sleep(LEASE * 2)

    assert sweep(broker, records) + sweep(broker, records) == 1
    assert len(waiting(broker)) == 1


def test_a_worker_that_lost_its_lease_cannot_end_what_another_one_has(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    tag = take(broker, custody)
    die(custody)
    until(lambda: sweep(broker, records) == 1)
    keys = broker.keys
    custody.settle(
        tag, lambda it: outcomes.dead(keys, "email", it.item, "permanent error", "late", "worker-1")
    )

    assert len(waiting(broker)) == 1
    assert broker.client.zcard(f"{keys.prefix}penstock:dead") == 0


def test_nothing_is_swept_until_the_broker_was_reached_for_a_whole_lease(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    take(broker, custody)
    die(custody)
    began = time()
    until(lambda: Housekeeper(broker, records, lease=LEASE * 3).sweep() == 1)

    assert time() - began >= LEASE * 3


def test_after_a_break_the_broker_must_be_reached_for_a_whole_lease_again(broker: Broker) -> None:
    assert broker.reached_for(0.3) == 0
    sleep(0.2)
    assert broker.reached_for(0.3) >= 0.2
    sleep(0.4)
    assert broker.reached_for(0.3) == 0


def test_a_job_that_is_lost_with_its_worker_too_often_is_buried_as_poison(
    broker: Broker, records: Records
) -> None:
    put(broker, encoded())
    for _ in range(3):
        custody = Custody(broker, lease=LEASE, name="worker")
        take(broker, custody)
        die(custody)
        until(lambda: sweep(broker, records) == 1)

    assert waiting(broker) == []
    letter = broker.client.hgetall(broker.keys.letter("j-1"))
    assert isinstance(letter, dict)
    assert letter[b"reason"] == b"poison"
    Housekeeper(broker, records).deliver_notes()
    record = records.read("j-1")
    assert record is not None
    assert (record.state, record.reason) == (State.DEAD, "poison")


def test_what_is_given_back_is_not_counted_and_first_in_line(
    broker: Broker, custody: Custody
) -> None:
    put(broker, encoded())
    put(broker, encoded(headers={"id": "j-2", "task": "email.send"}))
    before = waiting(broker)
    custody.give_back(take(broker, custody))

    assert waiting(broker) == before


def test_a_worker_that_ends_gives_back_all_it_holds_and_what_it_never_heard_of(
    broker: Broker, custody: Custody
) -> None:
    put(broker, encoded())
    take(broker, custody)
    [holding] = custody._holdings
    broker.client.lpush(holding.key, encoded(headers={"id": "unheard", "task": "email.send"}))
    custody.close()

    assert {Envelope.decode(item).job_id for item in waiting(broker)} == {"j-1", "unheard"}
    assert broker.held(holding.key) == []


def test_a_message_without_a_handler_to_read_it_cannot_stop_the_sweep(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, b"\xff not a message")
    put(broker, encoded())
    take(broker, custody)
    take(broker, custody)
    die(custody)
    sleep(LEASE * 2)

    assert sweep(broker, records) == 2
    assert [Envelope.decode(item).job_id for item in waiting(broker)] == ["j-1"]
    assert broker.client.zcard(f"{broker.keys.prefix}penstock:dead:reason:undecodable") == 1


def test_what_is_delayed_moves_when_it_is_due_and_not_before(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    keys, due = broker.keys, time() + 0.4
    custody.settle(
        take(broker, custody),
        lambda it: outcomes.later(keys, "email", it.item, "worker-1", "was busy", due),
    )
    keeper = Housekeeper(broker, records)

    assert keeper.move_due() == 0
    until(lambda: keeper.move_due() == 1)
    assert time() >= due
    [item] = waiting(broker)
    assert Envelope.decode(item).raw["headers"]["retries"] == 1


def test_a_thousand_that_are_due_at_once_all_move(broker: Broker, records: Records) -> None:
    keys = broker.keys
    broker.client.sadd(keys.delayed_queues, "email")
    due = {str(number): 1 for number in range(1000)}
    broker.client.zadd(keys.delayed("email"), due)

    assert Housekeeper(broker, records).move_due() == 1000
    assert len(set(waiting(broker))) == 1000


@pytest.mark.parametrize("source", ["email", "email\x06\x163"])
def test_what_is_of_other_queues_is_left_to_those_who_serve_them(
    broker: Broker, records: Records, source: str
) -> None:
    custody = Custody(broker, lease=LEASE, name="worker-1")
    [holding] = custody.open([source]).values()
    die(custody)
    broker.client.lpush(holding.key, encoded())
    broker.client.sadd(broker.keys.delayed_queues, source)
    broker.client.zadd(broker.keys.delayed(source), {encoded(): 1})
    sleep(LEASE)
    others = Housekeeper(broker, records, queues={"payment", "emails"}, lease=0)
    own = Housekeeper(broker, records, queues={"email", "payment"}, lease=0)
    assert (others.sweep(), others.move_due()) == (0, 0)
    assert (own.sweep(), own.move_due()) == (1, 1)
    assert len(broker.held(broker.keys.queue(source))) == 2


def test_a_full_broker_goes_on_giving_out_jobs_and_keeping_leases(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    tag = take(broker, custody)
    broker.client.config_set("maxmemory", 1)
    try:
        assert broker.renew([custody._holdings[0].key], 60) == 0
        custody.give_back(tag)
        assert len(waiting(broker)) == 1
        assert Housekeeper(broker, records).move_due() == 0
    finally:
        broker.client.config_set("maxmemory", 0)


def test_nothing_is_lost_where_a_queue_is_no_list(
    broker: Broker, custody: Custody, records: Records
) -> None:
    keys, client = broker.keys, broker.client
    put(broker, encoded())
    tag = take(broker, custody)
    client.sadd(keys.delayed_queues, "email")
    client.zadd(keys.delayed("email"), {encoded(headers={"id": "due", "task": "email.send"}): 1})
    client.set(keys.queue("email"), "no list")
    custody.give_back(tag)

    assert Housekeeper(broker, records).move_due() == 0
    assert client.zcard(keys.delayed("email")) == 1
    assert len(broker.held(custody._holdings[0].key)) == 1
    client.delete(keys.queue("email"))
    until(lambda: len(waiting(broker)) == 1)
    assert Housekeeper(broker, records).move_due() == 1
    assert broker.held(custody._holdings[0].key) == []


def test_a_queue_that_is_no_list_keeps_nobody_from_the_jobs_of_others(
    broker: Broker, custody: Custody, records: Records
) -> None:
    broker.client.set(broker.keys.queue("broken"), "no list")
    for source in ("broken", "email"):
        [holding] = custody.open([source]).values()
        broker.client.lpush(holding.key, encoded())
    die(custody)
    until(lambda: sweep(broker, records) == 1)
    assert len(waiting(broker)) == 1

    broker.client.delete(broker.keys.queue("broken"))
    assert sweep(broker, records) == 1


def test_a_lost_workers_job_runs_elsewhere_although_the_clock_was_set_back(
    broker: Broker, custody: Custody, records: Records
) -> None:
    put(broker, encoded())
    take(broker, custody)
    die(custody)
    tomorrow = int((time() + 86400) * 1000)
    broker.client.zadd(broker.keys.leases, {custody._holdings[0].key: tomorrow})
    broker.client.set(broker.keys.reached, tomorrow)
    assert broker.reached_for(5) == 0
    assert sweep(broker, records) == 0

    due: Any = broker.client.zscore(broker.keys.leases, custody._holdings[0].key)
    assert due < (time() + 2 * LEASE_OF_ALL) * 1000


def test_a_note_that_could_not_be_written_comes_later_through_the_broker(
    broker: Broker, records: Records, redis_url: str
) -> None:
    away = Records(Redis(port=1), lambda: broker, ttl=60)
    away.note("j-1", State.STARTED, 1, job="email.send")
    away.note("j-1", State.SUCCESS, 1, result='"done"')

    assert records.read("j-1") is None
    assert Housekeeper(broker, records).deliver_notes() == 2
    record = records.read("j-1")
    assert record is not None
    assert (record.state, record.result) == (State.SUCCESS, "done")
