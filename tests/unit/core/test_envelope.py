"""Messages, what is noted in them, and what is no message."""

import json
from base64 import b64encode
from typing import Any

import pytest
from kombu.compression import compress
from messages import encoded, message

from penstock.envelope import ATTEMPTS_KEPT, Envelope, MalformedError


def test_a_message_that_nobody_noted_anything_in_is_the_first_delivery() -> None:
    envelope = Envelope.decode(encoded())

    assert (envelope.job_id, envelope.job, envelope.queue) == ("j-1", "email.send", "email")
    assert (envelope.fence, envelope.deliveries, envelope.attempts) == (1, 0, [])


def test_what_is_noted_is_read_again() -> None:
    envelope = Envelope.decode(encoded())
    envelope.redelivered("worker-1", "was lost")
    again = Envelope.decode(envelope.encode())

    assert (again.fence, again.deliveries) == (2, 1)
    assert [(tried["worker"], tried["error"]) for tried in again.attempts] == [
        ("worker-1", "was lost")
    ]


def test_each_redelivery_and_retry_has_a_higher_fence() -> None:
    envelope = Envelope.decode(encoded())
    fences = [envelope.fence]
    for step in (envelope.redelivered, envelope.retried, envelope.redelivered):
        step("w", "e")
        fences.append(envelope.fence)

    assert fences == [1, 2, 3, 4]


def test_a_retry_counts_as_celery_counts_and_is_not_held_back_by_an_eta() -> None:
    later = Envelope.decode(encoded(headers={"id": "j", "task": "t", "retries": 2, "eta": "2099"}))
    later.retried("w", "e")

    assert later.raw["headers"]["retries"] == 3
    assert later.raw["headers"]["eta"] is None
    assert later.raw["properties"]["delivery_tag"] != "t-1"


def test_a_redelivery_says_so_where_celery_looks() -> None:
    raw = Envelope.decode(encoded()).redelivered("w", "e").raw

    assert raw["headers"]["redelivered"] is True
    assert raw["properties"]["delivery_info"]["redelivered"] is True


def test_only_the_newest_attempts_are_remembered() -> None:
    envelope = Envelope.decode(encoded())
    for number in range(ATTEMPTS_KEPT + 5):
        envelope.tried("w", str(number))
    errors = [tried["error"] for tried in Envelope.decode(envelope.encode()).attempts]

    assert errors == [str(number) for number in range(5, ATTEMPTS_KEPT + 5)]


def test_a_replay_is_as_new_but_leaves_a_fence_free_and_keeps_the_history() -> None:
    worn = Envelope.decode(encoded()).redelivered("w", "e").retried("w", "e")
    history = worn.attempts
    again = Envelope.decode(worn.replayed(history).encode())

    assert (again.fence, again.deliveries, again.attempts) == (5, 0, history)
    headers, properties = again.raw["headers"], again.raw["properties"]
    assert (headers["retries"], headers["eta"], headers["expires"]) == (0, None, None)
    assert not headers["redelivered"]
    assert not properties["delivery_info"]["redelivered"]


@pytest.mark.parametrize(
    "compressed", [{}, {"compression": "application/x-gzip"}, {"compression": "application/x-bz2"}]
)
@pytest.mark.parametrize("encoding", ["base64", None])
def test_arguments_are_read_and_replaced_however_they_were_written(
    compressed: dict[str, str], encoding: str | None
) -> None:
    content = json.dumps([[1], {"old": "é"}, {"chord": None}]).encode()
    if compressed:
        content, encoding = compress(content, compressed["compression"])[0], "base64"
    body = b64encode(content) if encoding else content
    properties = {**message()["properties"], "body_encoding": encoding}
    envelope = Envelope.decode(
        encoded(body=body.decode(), properties=properties, headers={"id": "j", **compressed})
    )
    assert envelope.body() == ([1], {"old": "é"}, {"chord": None})

    again = Envelope.decode(envelope.with_arguments([2], {"new": "ü"}, "{'new': 'ü'}").encode())
    assert again.body() == ([2], {"new": "ü"}, {"chord": None})
    assert again.raw["headers"]["kwargsrepr"] == "{'new': 'ü'}"


@pytest.mark.parametrize(
    "noted",
    [
        "x",
        1,
        [],
        {"fence": 2, "colour": "red"},
        {"colour": 1},
        {"fence": "2"},
        {"fence": None},
        {"deliveries": []},
        {"attempts": {}},
    ],
)
def test_notes_that_are_not_ours_are_not_believed(noted: Any) -> None:
    envelope = Envelope.decode(encoded(headers={"id": "j", "task": "t", "penstock": noted}))

    assert (envelope.fence, envelope.deliveries) == (1, 0)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"text"', "object"),
        (b"{}", "headers"),
        (encoded(headers=None), "headers"),
        (encoded(headers=[]), "headers"),
        (encoded(properties=None), "properties"),
        (encoded(properties={}), "delivery_info"),
        (encoded(properties={"delivery_info": []}), "delivery_info"),
        (encoded(body=None), "body"),
        (encoded(body=[1]), "body"),
        (encoded(body="a"), "Base64"),
    ],
)
def test_what_is_no_message_says_why(item: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        Envelope.decode(item)
