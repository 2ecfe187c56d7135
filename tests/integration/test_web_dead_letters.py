"""Dead letters over HTTP."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from letters import bury, job
from redis import Redis
from werkzeug.test import TestResponse

from penstock.broker import Broker
from penstock.envelope import Envelope
from penstock.settings import Settings

LETTERS = "/api/dead-letters"
PAYMENT = {"order": "o-1", "currency": "EUR", "amount": "19.90"}


@pytest.fixture
def broker(settings: Settings) -> Broker:
    return Broker(Redis.from_url(settings.broker_url))


def waiting(broker: Broker, queue: str = "payment") -> list[Envelope]:
    return [Envelope.decode(item) for item in broker.held(queue)]


def problems(answer: TestResponse) -> dict[str, str]:
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    return {error["field"]: error["message"] for error in answer.get_json()["errors"]}


def left(client: FlaskClient) -> int:
    total: int = client.get(LETTERS).get_json()["total"]
    return total


def test_letters_are_listed_by_what_the_query_says(client: FlaskClient, broker: Broker) -> None:
    bury(broker, job(job_id="a"), "payment", "poison")
    bury(broker, job(job_id="b"), "payment", "time limit")
    bury(broker, job("email.send", "c"), "email", "poison")

    answer = client.get(LETTERS, query_string={"queue": "payment", "reason": "time limit"})
    assert answer.status_code == 200
    listed = answer.get_json()
    [letter] = listed["items"]
    assert (letter["id"], letter["job"], letter["reason"]) == ("b", "payment.process", "time limit")
    assert (listed["total"], listed["next"]) == (1, None)
    assert client.get(LETTERS, query_string={"older_than": "1h"}).get_json()["items"] == []
    assert client.get(LETTERS, query_string={"newer_than": 3600}).get_json()["total"] == 3


def test_the_next_page_is_where_the_last_one_says(client: FlaskClient, broker: Broker) -> None:
    for number in range(25):
        bury(broker, job(job_id=f"j-{number}"), reason="retries used up")
        bury(broker, job(job_id=f"other-{number}"), reason="poison")
    found, url = [], f"{LETTERS}?reason=retries%20used%20up&limit=10"
    while url:
        page = client.get(url).get_json()
        assert len(page["items"]) == 10 or page["next"] is None
        found += [letter["id"] for letter in page["items"]]
        url = page["next"]

    assert found == [f"j-{number}" for number in reversed(range(25))]


def test_a_letter_shows_all_that_is_known_of_it(client: FlaskClient, broker: Broker) -> None:
    item = job(body=[[], {"job": PAYMENT}, {}])
    bury(broker, item, error="OSError: gone", traceback="Traceback ...")

    letter = client.get(f"{LETTERS}/j-1").get_json()
    assert (letter["args"], letter["kwargs"]) == ([], {"job": PAYMENT})
    assert (letter["error"], letter["traceback"]) == ("OSError: gone", "Traceback ...")
    [attempt] = letter["attempts"]
    assert (attempt["worker"], attempt["error"]) == ("worker-1", "OSError: gone")
    assert letter["message"] == item.decode()


def test_a_malformed_letter_is_shown_and_its_replay_is_a_conflict(
    client: FlaskClient, broker: Broker
) -> None:
    bury(broker, b"\xff{", reason="undecodable")
    [listed] = client.get(LETTERS, query_string={"job": ""}).get_json()["items"]
    url = f"{LETTERS}/{listed['id']}"

    letter = client.get(url).get_json()
    assert (letter["message"], letter["kwargs"]) == ("\\xff{", None)
    assert "not JSON" in letter["unreadable"]
    answer = client.post(f"{url}/replay")
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
    assert "malformed" in answer.get_json()["detail"]
    assert client.delete(url).status_code == 204
    assert left(client) == 0


def test_a_letter_is_replayed_once_and_its_job_can_be_followed(
    client: FlaskClient, broker: Broker
) -> None:
    bury(broker, job())

    answer = client.post(f"{LETTERS}/j-1/replay")
    assert answer.status_code == 202
    assert answer.get_json()["task_id"] == "j-1"
    assert answer.headers["Location"] == answer.get_json()["status_url"] == "/api/task-status/j-1"
    assert client.get(answer.headers["Location"]).get_json()["state"] == "PENDING"
    again = client.post(f"{LETTERS}/j-1/replay")
    assert (again.status_code, again.content_type) == (404, "application/problem+json")
    assert [it.job_id for it in waiting(broker)] == ["j-1"]


def test_a_letter_is_replayed_with_the_arguments_in_the_body(
    client: FlaskClient, broker: Broker
) -> None:
    bury(broker, job())

    assert client.post(f"{LETTERS}/j-1/replay", json={"job": PAYMENT}).status_code == 202
    [envelope] = waiting(broker)
    assert envelope.body()[:2] == ([], {"job": PAYMENT})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{", "body"),
        ("[]", "body"),
        ("null", "body"),
        ("{}", "job"),
        ('{"job": {}}', "job.order"),
        ('{"job": {"order": "o", "currency": "EUR", "amount": 1}}', "job.amount"),
        ('{"job": {"order": "o", "currency": "EUR", "amount": "1"}, "x": 1}', "x"),
    ],
)
def test_wrong_arguments_are_refused_by_their_names(
    client: FlaskClient, broker: Broker, body: str, field: str
) -> None:
    bury(broker, job())

    assert field in problems(client.post(f"{LETTERS}/j-1/replay", data=body))
    assert left(client) == 1
    assert waiting(broker) == []


def test_many_are_replayed_in_portions(client: FlaskClient, broker: Broker) -> None:
    bury(broker, b"no message", "payment", "undecodable")
    for number in range(5):
        bury(broker, job(job_id=f"p-{number}"), "payment")
    bury(broker, job("email.send", "e"), "email")
    answers, url = [], f"{LETTERS}/replay?queue=payment&limit=4"
    while url:
        answers.append(client.post(url).get_json())
        url = answers[-1]["next"]

    assert [answer["replayed"] for answer in answers] == [3, 2]
    [refused] = answers[0]["refused"]
    assert "malformed" in refused["reason"]
    assert client.get(f"{LETTERS}/{refused['id']}").status_code == 200
    assert sorted(it.job_id for it in waiting(broker)) == [f"p-{number}" for number in range(5)]
    assert left(client) == 2


def test_many_are_discarded_in_portions(client: FlaskClient, broker: Broker) -> None:
    for number in range(5):
        bury(broker, job(job_id=f"p-{number}"), "payment")
    bury(broker, job("email.send", "e"), "email")
    first = client.delete(f"{LETTERS}?queue=payment&limit=3").get_json()
    second = client.delete(first["next"]).get_json()

    assert (first["discarded"], second) == (3, {"discarded": 2, "next": None})
    assert [it["id"] for it in client.get(LETTERS).get_json()["items"]] == ["e"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/replay"), ("DELETE", "")])
def test_all_letters_are_meant_only_where_that_is_said(
    client: FlaskClient, broker: Broker, method: str, path: str
) -> None:
    bury(broker, job())
    url = f"{LETTERS}{path}"

    for query in ("", "?all=false", "?limit=10"):
        assert "filter" in problems(client.open(url + query, method=method))["all"]
    assert left(client) == 1
    assert client.open(f"{url}?all=true", method=method).status_code == 200
    assert left(client) == 0


def test_arguments_cannot_be_changed_for_many(client: FlaskClient, broker: Broker) -> None:
    bury(broker, job())

    assert problems(client.post(f"{LETTERS}/replay?all=true", json={"job": PAYMENT}))["body"]
    assert left(client) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("colour=red", "colour"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("older_than=soon", "older_than"),
        ("older_than=-1", "older_than"),
        ("newer_than=nan", "newer_than"),
        ("newer_than=", "newer_than"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=W10", "cursor"),
        ("cursor=%ff", "cursor"),
        ("cursor=WzEsIDIsIDMsIE5hTl0", "cursor"),
    ],
)
def test_a_wrong_query_is_refused_by_the_name_of_its_part(
    client: FlaskClient, broker: Broker, query: str, field: str
) -> None:
    bury(broker, job())

    assert field in problems(client.get(f"{LETTERS}?{query}"))
    if field != "limit":
        assert field in problems(client.delete(f"{LETTERS}?all=true&{query}"))
        assert field in problems(client.post(f"{LETTERS}/replay?all=true&{query}"))
    assert left(client) == 1


@pytest.mark.parametrize("job_id", ["a/b", "a b?c=d&e#f", "replay", "a/replay", "%41", "é\x1b[1m"])
def test_a_letter_of_any_id_can_be_reached(
    client: FlaskClient, broker: Broker, job_id: str
) -> None:
    bury(broker, job(job_id=job_id))
    url = f"{LETTERS}/{quote(job_id, safe='')}"

    assert client.get(url).get_json()["id"] == job_id
    assert client.post(f"{url}/replay").status_code == 202
    bury(broker, job(job_id=job_id))
    assert client.delete(url).status_code == 204


def test_a_letter_that_is_not_there_is_a_404(client: FlaskClient) -> None:
    for answer in (
        client.get(f"{LETTERS}/nobody"),
        client.post(f"{LETTERS}/nobody/replay", json={"job": PAYMENT}),
        client.delete(f"{LETTERS}/nobody"),
    ):
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_without_the_broker_all_of_it_is_unavailable(
    make_client: Callable[..., FlaskClient],
) -> None:
    client: Any = make_client(broker_url="redis://127.0.0.1:1/0")
    for answer in (
        client.get(LETTERS),
        client.get(f"{LETTERS}/j-1"),
        client.post(f"{LETTERS}/j-1/replay"),
        client.post(f"{LETTERS}/replay?all=true"),
        client.delete(f"{LETTERS}/j-1"),
        client.delete(f"{LETTERS}?all=true"),
    ):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "broker" in answer.get_json()["detail"]


def test_nobody_sees_letters_without_the_key(client: FlaskClient, broker: Broker) -> None:
    bury(broker, job())
    stranger = client.application.test_client()

    assert stranger.get(f"{LETTERS}/j-1").status_code == 401
    assert stranger.delete(f"{LETTERS}?all=true").status_code == 401
    assert left(client) == 1
