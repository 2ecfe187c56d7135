"""Dead letters in a real broker: found, read, and taken away once."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import time
from typing import Any, cast

import pytest
from letters import bury, job
from messages import encoded, message
from processes import until
from pydantic import ValidationError
from redis import Redis

from penstock import outcomes
from penstock.broker import Broker
from penstock.dead_letters import Batch, DeadLetters, Filters, NotReplayableError, Page
from penstock.envelope import Envelope
from penstock.housekeeping import Housekeeper
from penstock.records import Record, Records, State

PAYMENT = {"order": "o-1", "currency": "EUR", "amount": "19.90"}
DAY = 86400


@pytest.fixture(params=["", "prefix-"])
def broker(redis_url: str, request: pytest.FixtureRequest) -> Broker:
    return Broker(Redis.from_url(redis_url), request.param)


@pytest.fixture
def letters(broker: Broker) -> DeadLetters:
    return DeadLetters(broker)


@pytest.fixture
def records(redis_url: str, broker: Broker) -> Records:
    return Records(Redis.from_url(f"{redis_url}/1"), lambda: broker, ttl=60)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock by which jobs die, in seconds since 1970."""

    def set_clock(seconds: float) -> None:
        monkeypatch.setattr(outcomes, "time", lambda: seconds)

    return set_clock


def waiting(broker: Broker, queue: str = "payment") -> list[Envelope]:
    """Return what waits in a queue, the next one first."""
    return [Envelope.decode(item) for item in reversed(broker.held(broker.keys.queue(queue)))]


def ids(page: Page) -> list[str]:
    return [letter.id for letter in page.items]


def all_ids(letters: DeadLetters, limit: int, filters: Filters, between: Any) -> list[str]:
    """Return the ids of all pages; `between` is called after each."""
    page = letters.page(filters, None, limit)
    found = ids(page)
    while page.next:
        between()
        page = letters.page(filters, page.next, limit)
        found += ids(page)
    return found


def nothing_is_left(broker: Broker) -> bool:
    """Whether no letter, and no place in a list of them, is in the broker."""
    left = {bytes(key).decode() for key in cast("list[bytes]", broker.client.keys("*"))}
    groups = {broker.keys.letter_groups, broker.keys.letters_dropped}
    return not any("penstock:dead" in key for key in left - groups)


# Finding


def test_letters_are_listed_with_the_newest_first(broker: Broker, letters: DeadLetters) -> None:
    for number in range(3):
        bury(broker, job(job_id=f"j-{number}"))

    page = letters.page()
    assert ids(page) == ["j-2", "j-1", "j-0"]
    assert (page.next, page.total) == (None, 3)
    newest = page.items[0]
    assert (newest.job, newest.queue, newest.reason) == (
        "payment.process",
        "payment",
        "permanent error",
    )
    assert newest.error == "ValueError: it broke"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"queue": "email"}, {"a", "b", "c"}),
        ({"job": "email.send"}, {"a", "b", "d"}),
        ({"reason": "poison"}, {"b", "d"}),
        ({"queue": "email", "job": "email.send"}, {"a", "b"}),
        ({"queue": "email", "reason": "poison"}, {"b"}),
        ({"job": "email.send", "reason": "poison"}, {"b", "d"}),
        ({"queue": "email", "job": "email.send", "reason": "poison"}, {"b"}),
        ({"queue": "report"}, set()),
        ({"queue": "email", "reason": "time limit"}, set()),
        ({"older_than": "2d"}, {"a"}),
        ({"newer_than": "2d"}, {"b", "c", "d"}),
        ({"older_than": "1h", "newer_than": "2d"}, {"b"}),
        ({"older_than": "1h", "queue": "email", "reason": "poison"}, {"b"}),
    ],
)
def test_letters_are_found_by_queue_job_reason_age_and_all_of_these(
    broker: Broker, letters: DeadLetters, at: Callable[[float], None], filters: Any, found: set[str]
) -> None:
    now = time()
    for name, task, queue, reason, age in (
        ("a", "email.send", "email", "permanent error", 3 * DAY),
        ("b", "email.send", "email", "poison", DAY),
        ("c", "notification.send", "email", "permanent error", 60),
        ("d", "email.send", "other", "poison", 60),
    ):
        at(now - age)
        bury(broker, job(task, name), queue, reason)

    page = letters.page(Filters(**filters))
    assert set(ids(page)) == found
    assert page.total == letters.count(Filters(**filters)) == len(found)


def test_names_with_colons_do_not_meet(broker: Broker, letters: DeadLetters) -> None:
    bury(broker, job("a:reason:poison", "one"), reason="time limit")
    bury(broker, job("a", "two"), reason="poison")

    assert ids(letters.page(Filters(job="a:reason:poison"))) == ["one"]
    assert ids(letters.page(Filters(job="a", reason="poison"))) == ["two"]


def test_thousands_are_paged_each_once_while_others_arrive_and_go(
    broker: Broker, letters: DeadLetters
) -> None:
    for number in range(3000):
        bury(broker, job(job_id=f"j-{number}"), "payment" if number % 3 else "email")
    arrivals = iter(range(10_000))

    def others() -> None:
        bury(broker, job(job_id=f"new-{next(arrivals)}"))
        letters.discard(f"new-{next(arrivals) - 1}")

    found = all_ids(letters, 70, Filters(queue="payment"), others)
    assert found == [f"j-{number}" for number in reversed(range(3000)) if number % 3]


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_letters_of_the_same_moment_are_paged_each_once(
    broker: Broker, letters: DeadLetters, at: Callable[[float], None], limit: int
) -> None:
    for moment, number in ((1, 60), (2, 60), (3, 1)):
        at(moment)
        for place in range(number):
            bury(broker, job(job_id=f"{moment}-{place}"))

    found = all_ids(letters, limit, Filters(), lambda: None)
    assert len(found) == len(set(found)) == 121
    assert [it[0] for it in found] == ["3"] + ["2"] * 60 + ["1"] * 60


def test_a_page_goes_on_where_it_was_when_the_letter_before_it_is_gone(
    broker: Broker, letters: DeadLetters, at: Callable[[float], None]
) -> None:
    at(1)
    for number in range(9):
        bury(broker, job(job_id=f"j-{number}"))
    first = letters.page(limit=3)
    assert letters.discard(ids(first)[-1])

    assert ids(letters.page(cursor=first.next, limit=3)) == ["j-5", "j-4", "j-3"]


def test_an_age_means_the_same_letters_on_every_page(
    broker: Broker, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        bury(broker, job(job_id=f"j-{number}"))
    young = Filters(newer_than=60)
    first = letters.page(young, limit=2)
    later = time() + 3600
    monkeypatch.setattr("penstock.dead_letters.time", lambda: later)

    assert ids(letters.page(young, first.next, 2)) == ["j-1", "j-0"]
    assert ids(letters.page(young)) == []


def test_letters_are_counted_by_queue_and_reason(broker: Broker, letters: DeadLetters) -> None:
    for number in range(3):
        bury(broker, job(job_id=f"p-{number}"), "payment", "poison")
    bury(broker, job(job_id="t"), "payment", "time limit")
    bury(broker, job("email.send", "e"), "email", "poison")
    assert letters.counts() == {"email": {"poison": 1}, "payment": {"poison": 3, "time limit": 1}}

    letters.discard("e")
    assert letters.replay("p-1")
    assert letters.counts() == {"payment": {"poison": 2, "time limit": 1}}


# Reading


def test_a_letter_shows_what_the_job_was_how_it_failed_and_when(
    broker: Broker, letters: DeadLetters
) -> None:
    tried = Envelope.decode(job(body=[[1, "two"], {"job": PAYMENT}, {}]))
    tried.retried("worker-0", "OSError: busy")
    bury(broker, tried.encode(), error="OSError: gone", traceback="Traceback ...\nOSError: gone\n")

    letter = letters.show("j-1")
    assert letter is not None
    assert (letter.args, letter.kwargs) == ([1, "two"], {"job": PAYMENT})
    assert (letter.error, letter.unreadable) == ("OSError: gone", None)
    assert letter.traceback == "Traceback ...\nOSError: gone\n"
    assert [(it.worker, it.error) for it in letter.attempts] == [
        ("worker-0", "OSError: busy"),
        ("worker-1", "OSError: gone"),
    ]
    assert letter.attempts[0].at <= letter.attempts[1].at == letter.died_at
    assert letter.message == tried.encode().decode()


def test_a_letter_that_is_not_there_is_none(letters: DeadLetters) -> None:
    assert letters.show("nobody") is None
    assert letters.replay("nobody") is None
    assert letters.discard("nobody") is False


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


MALFORMED = {
    "no text": b"\x00\xff\xfe",
    "nothing": b"",
    "no object": b"[]",
    "no message": b"{}",
    "no body": encoded(body=None),
    "no Base64": encoded(body="a"),
    "a body that is no JSON": encoded(body="bm9wZQ=="),
    "a body that is no list": job(body={"a": 1}),
    "a body that is too short": job(body=[[], {}]),
    "arguments of the wrong type": job(body=[{}, [], {}]),
    "arguments that are null": job(body=[None, None, None]),
    "no name": job(""),
    "no id": job(job_id=""),
    "no headers of ours": encoded(headers={}),
    "an encoding that there is not": encoded(**{"content-encoding": "nope"}),
    "a compression that there is not": job(compression="nope"),
    "a compressed body that is not": job(compression="application/x-gzip"),
    "too deep": encoded(body=nested(100_000), properties={"delivery_info": {}}),
}


@pytest.mark.parametrize("item", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_letter_is_shown_stays_when_it_is_replayed_and_can_be_discarded(
    broker: Broker, letters: DeadLetters, item: bytes
) -> None:
    bury(broker, item, reason="undecodable")

    [listed] = letters.page(Filters(reason="undecodable")).items
    letter = letters.show(listed.id)
    assert letter is not None
    assert json.loads(letter.model_dump_json())["message"] == item.decode(errors="backslashreplace")
    with pytest.raises(NotReplayableError, match="malformed"):
        letters.replay(listed.id)
    batch = letters.replay_many()
    assert (batch.done, list(batch.refused)) == (0, [listed.id])
    assert letters.count() == 1
    assert letters.discard(listed.id)
    assert nothing_is_left(broker)


ODD = {
    "a number that is none in JSON": job(body=[[float("nan"), float("inf")], {}, {}]),
    "half a character": job("\ud800", "\ud800", body=[["\ud800"], {"\ud800": 1}, {}]),
    "a history that is none": job(penstock={"fence": 1, "deliveries": 0, "attempts": [1, {}]}),
    "notes of the wrong type": job(penstock={"fence": "x", "deliveries": [], "attempts": 1}),
    "a name that is none": job(cast("str", {"a": 1}), cast("str", [1])),
    "an id with everything in it": job(job_id="a/b:c d\n\x1b[31m%00*"),
    "pickle": encoded(**{"content-type": "application/x-python-serialize"}),
    "a deep body": job(body=[json.loads(nested(400)), {}, {}]),
}


@pytest.mark.parametrize("item", ODD.values(), ids=ODD.keys())
def test_an_odd_letter_is_shown_and_replayed_as_it_was(
    broker: Broker, letters: DeadLetters, item: bytes
) -> None:
    bury(broker, item, error="half a \ud800")

    [listed] = letters.page().items
    letter = letters.show(listed.id)
    assert letter is not None
    json.dumps(letter.model_dump(), allow_nan=False)
    assert letters.replay(listed.id)
    [envelope] = waiting(broker)
    assert envelope.raw["body"] == json.loads(item)["body"]
    assert nothing_is_left(broker)


def test_two_letters_of_one_id_are_both_kept(broker: Broker, letters: DeadLetters) -> None:
    bury(broker, job(body=[[1], {}, {}]), reason="poison")
    bury(broker, job(body=[[2], {}, {}]), reason="time limit")

    second, first = letters.page().items
    assert first.id == "j-1"
    assert second.id.startswith("j-1~")
    assert (first.job_id, second.job_id) == ("j-1", "j-1")
    assert (first.reason, second.reason) == ("poison", "time limit")
    assert letters.replay(first.id)
    assert letters.replay(second.id)
    assert [envelope.body()[0] for envelope in waiting(broker)] == [[1], [2]]
    assert nothing_is_left(broker)


# Replaying


def test_a_replayed_job_waits_as_if_new_but_with_a_higher_fence_and_its_history(
    broker: Broker, letters: DeadLetters
) -> None:
    worn = Envelope.decode(job(expires="2020-01-01T00:00:00+00:00", eta="2099-01-01"))
    worn.redelivered("worker-0", "was lost")
    bury(broker, worn.encode())
    broker.client.lpush(broker.keys.queue("payment"), job(job_id="before"))

    assert letters.replay("j-1")
    before, replayed = waiting(broker)
    assert (before.job_id, replayed.job_id) == ("before", "j-1")
    assert replayed.fence > worn.fence
    assert replayed.deliveries == 0
    assert [it["error"] for it in replayed.attempts] == ["was lost", "ValueError: it broke"]
    headers = replayed.raw["headers"]
    assert (headers["retries"], headers["eta"], headers["expires"]) == (0, None, None)
    assert headers["redelivered"] is False
    assert replayed.raw["body"] == worn.raw["body"]
    assert nothing_is_left(broker)


def test_a_letter_is_replayed_once_however_often_it_is_asked_for(
    broker: Broker, letters: DeadLetters
) -> None:
    bury(broker, job())

    assert [bool(letters.replay("j-1")) for _ in range(3)] == [True, False, False]
    assert len(waiting(broker)) == 1


def test_of_many_who_replay_or_discard_a_letter_at_once_one_does(
    broker: Broker, letters: DeadLetters
) -> None:
    for number in range(50):
        bury(broker, job(job_id=f"j-{number}"))
    start = Barrier(4)

    def take(how: Callable[[str], Any]) -> set[str]:
        start.wait()
        return {it for it in (f"j-{number}" for number in range(50)) if how(it)}

    with ThreadPoolExecutor(4) as pool:
        ways = [letters.replay, letters.replay, letters.discard, letters.replay]
        taken = list(pool.map(take, ways))

    assert sum(map(len, taken)) == len(set().union(*taken)) == 50
    replayed = taken[0] | taken[1] | taken[3]
    assert sorted(it.job_id for it in waiting(broker)) == sorted(replayed)


def test_of_many_who_replay_all_letters_at_once_each_is_replayed_by_one(
    broker: Broker, letters: DeadLetters
) -> None:
    for number in range(500):
        bury(broker, job(job_id=f"j-{number}"))
    start = Barrier(3)

    def take(_: int) -> int:
        start.wait()
        return letters.replay_many().done

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(take, range(3))) == 500
    assert len({it.job_id for it in waiting(broker)}) == len(waiting(broker)) == 500


def test_a_letter_that_was_replaced_while_it_was_read_is_not_taken_for_the_old_one(
    broker: Broker, letters: DeadLetters
) -> None:
    bury(broker, job())
    old = letters._read(["j-1"], ("queue", "job", "reason", "died_at"))["j-1"]
    assert letters.replay("j-1")
    bury(broker, job(body=[["new"], {}, {}]))

    assert not letters._exhume("j-1", old, ())
    assert letters.count() == 1


def test_a_full_broker_still_lets_letters_go(broker: Broker, letters: DeadLetters) -> None:
    bury(broker, job())
    bury(broker, job(job_id="j-2"))
    broker.client.config_set("maxmemory", 1)
    try:
        assert letters.replay("j-1")
        assert letters.discard("j-2")
    finally:
        broker.client.config_set("maxmemory", 0)
    assert len(waiting(broker)) == 1


def read(records: Records, job_id: str = "j-1") -> Record:
    record = records.read(job_id)
    assert record is not None
    return record


def test_the_job_of_a_replayed_letter_is_pending_and_no_longer_failed(
    broker: Broker, letters: DeadLetters, records: Records
) -> None:
    keeper = Housekeeper(broker, records)
    records.note("j-1", State.STARTED, 1, job="payment.process")
    bury(broker, job())
    keeper.deliver_notes()
    assert (read(records).state, read(records).reason) == (State.DEAD, "permanent error")

    assert letters.replay("j-1")
    keeper.deliver_notes()
    record = read(records)
    assert (record.state, record.queue, record.attempts) == (State.PENDING, "payment", 1)
    assert (record.error, record.reason, record.finished_at) == (None, None, None)


def test_a_replayed_job_whose_record_has_expired_has_one_again(
    broker: Broker, letters: DeadLetters, records: Records
) -> None:
    bury(broker, job())
    broker.client.delete(broker.keys.outbox)
    assert letters.replay("j-1")
    Housekeeper(broker, records).deliver_notes()

    record = read(records)
    assert (record.state, record.job, record.queue) == (
        State.PENDING,
        "payment.process",
        "payment",
    )
    assert record.queued_at


@pytest.mark.parametrize("noted", [State.STARTED, State.SUCCESS, State.DEAD])
def test_a_run_that_is_faster_than_the_note_of_its_replay_is_what_stands(
    broker: Broker, letters: DeadLetters, records: Records, noted: State
) -> None:
    bury(broker, job())
    assert letters.replay("j-1")
    [envelope] = waiting(broker)
    records.note("j-1", noted, envelope.fence)
    Housekeeper(broker, records).deliver_notes()

    assert read(records).state == noted


# Replaying with other arguments


def test_a_job_is_replayed_with_other_arguments(broker: Broker, letters: DeadLetters) -> None:
    bury(broker, job(body=[[], {"job": {"order": "broken"}}, {"callbacks": None}]))

    assert letters.replay("j-1", {"job": PAYMENT})
    [envelope] = waiting(broker)
    assert envelope.body() == ([], {"job": PAYMENT}, {"callbacks": None})
    assert "19.90" in envelope.raw["headers"]["kwargsrepr"]


def test_a_job_that_no_contract_is_known_of_keeps_its_positional_arguments(
    broker: Broker, letters: DeadLetters
) -> None:
    bury(broker, job("other.job", body=[[1, 2], {"old": 1}, {}]))

    assert letters.replay("j-1", {"new": [True, None]})
    [envelope] = waiting(broker)
    assert envelope.body() == ([1, 2], {"new": [True, None]}, {})


@pytest.mark.parametrize(
    ("kwargs", "where"),
    [
        ({}, ("job",)),
        ({"job": {}}, ("job", "order")),
        ({"job": {**PAYMENT, "amount": 19.9}}, ("job", "amount")),
        ({"job": {**PAYMENT, "colour": "red"}}, ("job", "colour")),
        ({"job": PAYMENT, "colour": "red"}, ("colour",)),
        ({"job": None}, ("job",)),
    ],
)
def test_arguments_that_the_contract_refuses_leave_the_letter_where_it_is(
    broker: Broker, letters: DeadLetters, kwargs: dict[str, Any], where: tuple[str, ...]
) -> None:
    bury(broker, job())

    with pytest.raises(ValidationError) as refusal:
        letters.replay("j-1", kwargs)
    assert where in [error["loc"] for error in refusal.value.errors()]
    assert letters.count() == 1
    assert waiting(broker) == []


def test_other_arguments_replace_only_arguments_that_can_be_read(
    broker: Broker, letters: DeadLetters
) -> None:
    bury(broker, encoded(**{**message(), "content-type": "application/x-python-serialize"}))

    with pytest.raises(NotReplayableError, match="x-python-serialize, not application/json"):
        letters.replay("j-1", {"new": 1})
    assert letters.count() == 1


# Many


def finished(
    take: Callable[..., Batch], filters: Filters, limit: int, between: Callable[[], None]
) -> tuple[int, dict[str, str]]:
    batch = take(filters, None, limit)
    done, refused = batch.done, batch.refused
    while batch.next:
        between()
        batch = take(filters, batch.next, limit)
        done, refused = done + batch.done, refused | batch.refused
    return done, refused


def test_many_are_replayed_in_the_order_in_which_they_died(
    broker: Broker, letters: DeadLetters
) -> None:
    for number in range(450):
        bury(broker, job(job_id=f"j-{number}"), reason="poison" if number % 2 else "time limit")

    done, refused = finished(letters.replay_many, Filters(reason="poison"), 200, lambda: None)
    assert (done, refused) == (225, {})
    assert [it.job_id for it in waiting(broker)] == [f"j-{it}" for it in range(1, 450, 2)]
    assert letters.counts() == {"payment": {"time limit": 225}}


def test_a_job_that_dies_again_while_many_are_replayed_is_replayed_once(
    broker: Broker, letters: DeadLetters
) -> None:
    for number in range(6):
        bury(broker, job(job_id=f"j-{number}"))

    def die_again() -> None:
        for envelope in waiting(broker):
            broker.client.rpop(broker.keys.queue("payment"))
            bury(broker, envelope.encode())

    done, _ = finished(letters.replay_many, Filters(), 2, die_again)
    assert done == 6
    assert letters.count() == 4


def test_what_cannot_be_replayed_does_not_stop_the_rest(
    broker: Broker, letters: DeadLetters
) -> None:
    bury(broker, b"no message", reason="undecodable")
    for number in range(3):
        bury(broker, job(job_id=f"j-{number}"))
    bury(broker, b"no message either", reason="undecodable")

    done, refused = finished(letters.replay_many, Filters(), 2, lambda: None)
    assert done == 3
    assert len(refused) == letters.count() == 2
    assert all("malformed" in why for why in refused.values())


def test_many_are_discarded_and_no_others(broker: Broker, letters: DeadLetters) -> None:
    for number in range(250):
        bury(broker, job(job_id=f"p-{number}"), "payment")
        bury(broker, job("email.send", f"e-{number}"), "email")

    assert finished(letters.discard_many, Filters(queue="payment"), 100, lambda: None) == (250, {})
    assert letters.counts() == {"email": {"permanent error": 250}}
    assert waiting(broker) == []
    finished(letters.discard_many, Filters(), 100, lambda: None)
    assert nothing_is_left(broker)


# Retention


def test_old_letters_are_dropped_and_counted_by_reason(
    broker: Broker, letters: DeadLetters, at: Callable[[float], None]
) -> None:
    now = time()
    for number, age in enumerate([40, 35, 31, 29, 1]):
        at(now - age * DAY)
        bury(broker, job(job_id=f"j-{number}"), reason="poison" if number else "time limit")

    assert letters.expire(30 * DAY, 100) is False
    assert ids(letters.page()) == ["j-4", "j-3"]
    assert letters.dropped() == {"age": {"time limit": 1, "poison": 2}, "count": {}}


def test_the_oldest_of_too_many_letters_are_dropped_and_counted_by_reason(
    broker: Broker, letters: DeadLetters
) -> None:
    for number in range(350):
        bury(broker, job(job_id=f"j-{number}"), reason="time limit" if number < 5 else "poison")

    assert letters.expire(DAY, 10) is False
    assert ids(letters.page()) == [f"j-{number}" for number in range(349, 339, -1)]
    assert letters.dropped() == {"age": {}, "count": {"time limit": 5, "poison": 335}}
    assert letters.counts() == {"payment": {"poison": 10}}
    assert letters.expire(DAY, 10) is False
    assert letters.count() == 10


def test_a_machine_whose_clock_is_a_year_ahead_drops_nothing(
    broker: Broker, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(broker, job())
    later = time() + 365 * DAY
    monkeypatch.setattr("penstock.dead_letters.time", lambda: later)

    assert letters.expire(30 * DAY, 100) is False
    assert (letters.count(), letters.dropped()) == (1, {"age": {}, "count": {}})


def test_many_who_drop_letters_at_once_drop_no_more_than_one_would(
    broker: Broker, letters: DeadLetters
) -> None:
    for number in range(800):
        bury(broker, job(job_id=f"j-{number}"))
    start = Barrier(4)

    def expire(_: int) -> None:
        start.wait()
        letters.expire(DAY, 300)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(expire, range(4)))
    assert letters.count() == 300
    assert letters.dropped()["count"] == {"permanent error": 500}


def test_one_call_drops_a_bounded_number_and_says_that_there_may_be_more(
    broker: Broker, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.dead_letters.ROUNDS", 2)
    for number in range(250):
        bury(broker, job(job_id=f"j-{number}"))

    assert letters.expire(DAY, 0) is True
    assert letters.count() == 50
    assert letters.expire(DAY, 0) is False
    assert nothing_is_left(broker)


def test_housekeeping_drops_what_there_is_too_much_of(
    broker: Broker, letters: DeadLetters, records: Records
) -> None:
    for number in range(5):
        bury(broker, job(job_id=f"j-{number}"))
    keeper = Housekeeper(broker, records, dead_ttl=DAY, dead_max=2)
    keeper.start()
    try:
        until(lambda: letters.count() == 2, "the oldest letters were dropped")
    finally:
        keeper.stop()
    assert ids(letters.page()) == ["j-4", "j-3"]
