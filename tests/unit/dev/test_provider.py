import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from penstock_dev.provider import Ledger, create_app

ORDER = {"amount": 1990, "currency": "EUR", "reference": "o-1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.jsonl"


@pytest.fixture
def client(path: Path) -> FlaskClient:
    return create_app(Ledger(path)).test_client()


def charge(client: FlaskClient, key: str | None = "k-1", **changes: Any) -> TestResponse:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return client.post("/charges", json={**ORDER, **changes}, headers=headers)


def test_a_charge_is_made_once_for_each_key(client: FlaskClient) -> None:
    first, second, other = charge(client), charge(client), charge(client, "k-2")
    assert [answer.status_code for answer in (first, second, other)] == [201, 200, 201]
    assert first.get_json() == second.get_json()
    assert first.get_json()["id"] != other.get_json()["id"]
    assert client.get("/ledger").get_json() == [first.get_json(), other.get_json()]


def test_many_who_ask_at_once_under_one_key_get_one_charge(client: FlaskClient) -> None:
    threads = 8
    gate = Barrier(threads)

    def ask(key: str) -> TestResponse:
        gate.wait()
        return charge(client.application.test_client(), key)

    with ThreadPoolExecutor(threads) as pool:
        for key in map(str, range(20)):
            answers = list(pool.map(ask, [key] * threads))
            assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
            assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert len(client.get("/ledger").get_json()) == 20


def test_the_ledger_survives_a_restart(client: FlaskClient, path: Path) -> None:
    made = charge(client).get_json()
    restarted = create_app(Ledger(path)).test_client()
    answer = charge(restarted)
    assert (answer.status_code, answer.get_json()) == (200, made)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [made]


@pytest.mark.parametrize(
    "changes", [{"amount": 1991}, {"currency": "USD"}, {"reference": "o-2"}], ids=str
)
def test_another_charge_under_a_key_that_was_used_is_refused(
    client: FlaskClient, changes: dict[str, Any]
) -> None:
    charge(client)
    answer = charge(client, **changes)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.get_json()["error"]
    assert len(client.get("/ledger").get_json()) == 1


def test_a_declined_card_is_not_charged(client: FlaskClient) -> None:
    answer = charge(client, reference="decline-1")
    assert (answer.status_code, answer.get_json()["error"]) == (402, "the card was declined")
    assert client.get("/ledger").get_json() == []


@pytest.mark.parametrize("key", [None, ""])
def test_a_charge_without_a_key_is_refused(client: FlaskClient, key: str | None) -> None:
    answer = charge(client, key)
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.get_json()["error"]


@pytest.mark.parametrize(
    "changes",
    [{"amount": 0}, {"amount": -1}, {"amount": 19.9}, {"amount": "1990"}, {"colour": "red"}],
    ids=str,
)
def test_what_is_no_charge_is_refused_with_what_is_wanted(
    client: FlaskClient, changes: dict[str, Any]
) -> None:
    answer = charge(client, **changes)
    assert answer.status_code == 422
    assert "amount (minor units)" in answer.get_json()["error"]
    assert client.get("/ledger").get_json() == []
