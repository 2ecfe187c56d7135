"""Cancelling over HTTP, as far as the web tier goes; workers have tests of their own."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from redis import Redis
from servers import RedisServer

from penstock.records import Records, State
from penstock.settings import Settings

MakeClient = Callable[..., FlaskClient]

PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}


def test_a_waiting_job_is_cancelled_once_and_for_all(client: FlaskClient) -> None:
    status_url = client.post("/api/payments", json=PAYMENT).get_json()["status_url"]
    first = client.post(f"{status_url}/cancel")
    again = client.post(f"{status_url}/cancel")

    for answer in (first, again, client.get(status_url)):
        assert answer.status_code == 200
        assert answer.get_json()["state"] == "CANCELLED"
        assert answer.get_json()["status"] == "cancelled"


@pytest.mark.parametrize("state", [State.STARTED, State.PROGRESS])
def test_a_running_job_is_cancelled(client: FlaskClient, settings: Settings, state: State) -> None:
    Records.connect(settings).note("j", state, 1)

    assert client.post("/api/task-status/j/cancel").get_json()["state"] == "CANCELLED"


@pytest.mark.parametrize("state", [State.SUCCESS, State.DEAD, State.EXPIRED])
def test_a_job_that_has_ended_is_a_409_that_says_how(
    client: FlaskClient, settings: Settings, state: State
) -> None:
    Records.connect(settings).note("j", state, 1)
    answer = client.post("/api/task-status/j/cancel")

    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
    assert state in answer.get_json()["detail"]
    assert client.get("/api/task-status/j").get_json()["state"] == state


def test_an_id_that_was_never_issued_is_a_404_and_stays_one(client: FlaskClient) -> None:
    assert client.post("/api/task-status/x/cancel").status_code == 404
    assert client.get("/api/task-status/x").status_code == 404


def test_cancelling_needs_the_key(client: FlaskClient, settings: Settings) -> None:
    status_url = client.post("/api/payments", json=PAYMENT).get_json()["status_url"]
    client.environ_base["HTTP_AUTHORIZATION"] = "Bearer another"

    assert client.post(f"{status_url}/cancel").status_code == 401
    record = Records.connect(settings).read(status_url.rpartition("/")[2])
    assert record is not None
    assert record.state == State.PENDING


def test_without_the_results_nothing_can_be_cancelled_for_now(
    make_client: MakeClient,
) -> None:
    client = make_client(results_url="redis://127.0.0.1:1/0")
    answer = client.post("/api/task-status/x/cancel")

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


def test_without_the_broker_a_job_is_cancelled_where_it_is_recorded(
    make_client: MakeClient, settings: Settings, redis_server: RedisServer
) -> None:
    client = make_client(broker_url=f"{redis_server.url}/0")
    status_url = client.post("/api/payments", json=PAYMENT).get_json()["status_url"]
    redis_server.kill()

    assert client.post(f"{status_url}/cancel").status_code == 200
    assert client.get(status_url).get_json()["state"] == "CANCELLED"


def test_the_broker_is_told_as_well_for_the_case_that_the_results_are_away_later(
    client: FlaskClient, settings: Settings
) -> None:
    task_id = client.post("/api/payments", json=PAYMENT).get_json()["task_id"]
    client.post(f"/api/task-status/{task_id}/cancel")

    ttl = int(str(Redis.from_url(settings.broker_url).ttl(f"penstock:cancelled:{task_id}")))
    assert 0 < ttl <= settings.records_ttl
