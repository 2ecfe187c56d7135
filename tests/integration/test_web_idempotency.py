"""The header Idempotency-Key: a request that carries it can be made again and is accepted once."""

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from redis import Redis
from servers import LossyWire, RedisServer
from werkzeug.test import TestResponse

from penstock.catalogue import BY_QUEUE
from penstock.database import Database, User
from penstock.settings import Settings

MakeClient = Callable[..., FlaskClient]

PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}
ATTACHMENT = {"name": "a.csv", "content_type": "text/csv", "content": "YSxiCg=="}
MAIL = {"to": ["a@example.com"], "subject": "S", "text": "T", "attachments": [ATTACHMENT]}
REQUESTS = [
    ("/api/send-email", MAIL, {"subject": "Another"}),
    ("/api/send-email", MAIL, {"attachments": [{**ATTACHMENT, "content": "YQ=="}]}),
    ("/api/notifications", {"user_id": 1, "title": "T", "message": "M"}, {"user_id": 2}),
    ("/api/reports", {"dataset": "orders"}, {"formats": ["xlsx"]}),
    ("/api/payments", PAYMENT, {"amount": "19.91"}),
]


def post(client: FlaskClient, path: str, body: Any, key: str = "k-1") -> TestResponse:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def upload(client: FlaskClient, colour: str = "red", key: str = "k-1", **form: str) -> TestResponse:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    file = (io.BytesIO(stream.getvalue()), "picture", "image/png")
    headers = {"Idempotency-Key": key}
    return client.post("/api/images", data={"file": file, **form}, headers=headers)


def queued(settings: Settings) -> list[str]:
    """Return the ids of the jobs that wait."""
    redis = Redis.from_url(settings.broker_url)
    messages = [json.loads(raw) for queue in BY_QUEUE for raw in redis.lrange(queue, 0, -1)]
    return [message["headers"]["id"] for message in messages]


def uploads(settings: Settings) -> list[str]:
    return (
        [folder.name for folder in Path(settings.files).iterdir()]
        if Path(settings.files).exists()
        else []
    )


@pytest.mark.parametrize(("path", "body", "change"), REQUESTS)
def test_a_request_that_is_made_again_is_the_same_job(
    client: FlaskClient, settings: Settings, path: str, body: Any, change: Any
) -> None:
    first = post(client, path, body)
    again = post(client, path, body)

    assert first.status_code == again.status_code == 202
    assert first.data == again.data
    assert first.headers["Location"] == again.headers["Location"]
    assert queued(settings) == [first.get_json()["task_id"]]


@pytest.mark.parametrize(("path", "body", "change"), REQUESTS)
def test_another_request_with_the_same_key_is_a_conflict_and_not_accepted(
    client: FlaskClient, settings: Settings, path: str, body: Any, change: Any
) -> None:
    first = post(client, path, body)
    before = uploads(settings)
    other = post(client, path, {**body, **change})

    assert (other.status_code, other.content_type) == (409, "application/problem+json")
    assert "'k-1'" in other.get_json()["detail"]
    assert queued(settings) == [first.get_json()["task_id"]]
    assert uploads(settings) == before


def test_a_notification_is_the_same_job_when_its_user_has_changed_meanwhile(
    client: FlaskClient, settings: Settings
) -> None:
    notice = {"user_id": 1, "title": "T", "message": "M"}
    first = post(client, "/api/notifications", notice)
    with Database(settings.database()).session() as session:
        session.get_one(User, 1).email = "moved@example.com"
    again = post(client, "/api/notifications", notice)

    assert (again.status_code, again.data) == (202, first.data)
    assert queued(settings) == [first.get_json()["task_id"]]


def test_the_same_body_to_another_address_is_another_request(client: FlaskClient) -> None:
    assert post(client, "/api/payments", PAYMENT).status_code == 202
    assert post(client, "/api/reports", {"dataset": "orders"}).status_code == 409


def test_how_the_json_is_written_does_not_matter(client: FlaskClient, settings: Settings) -> None:
    post(client, "/api/payments", PAYMENT)
    turned = json.dumps(dict(reversed(PAYMENT.items())), indent=4)
    headers = {"Idempotency-Key": "k-1"}

    assert client.post("/api/payments", data=turned, headers=headers).status_code == 202
    assert len(queued(settings)) == 1


def test_jobs_with_other_keys_or_without_one_are_jobs_of_their_own(
    client: FlaskClient, settings: Settings
) -> None:
    for key in ("k-1", "k-2"):
        post(client, "/api/payments", PAYMENT, key)
    for _ in range(2):
        client.post("/api/payments", json=PAYMENT)

    assert len(set(queued(settings))) == 4


def test_an_upload_that_is_made_again_is_the_same_job_and_kept_once(
    client: FlaskClient, settings: Settings
) -> None:
    renditions = json.dumps([{"name": "small", "width": 8, "height": 8}])
    # Each has a boundary of its own.
    first = upload(client, renditions=renditions)
    again = upload(client, renditions=renditions)

    assert first.status_code == again.status_code == 202
    assert first.data == again.data
    task_id = first.get_json()["task_id"]
    assert (queued(settings), uploads(settings)) == ([task_id], [f"{task_id}-in"])


def test_another_picture_or_other_renditions_with_the_same_key_are_a_conflict(
    client: FlaskClient, settings: Settings
) -> None:
    task_id = upload(client).get_json()["task_id"]
    renditions = json.dumps([{"name": "small", "width": 8, "height": 8}])

    assert upload(client, "blue").status_code == 409
    assert upload(client, renditions=renditions).status_code == 409
    assert (queued(settings), uploads(settings)) == ([task_id], [f"{task_id}-in"])


def test_of_requests_at_the_same_time_one_is_queued_and_all_get_its_answer(
    client: FlaskClient, settings: Settings
) -> None:
    together = Barrier(8)

    def ask(_: int) -> bytes:
        with client.application.test_client() as own:
            own.environ_base["HTTP_AUTHORIZATION"] = client.environ_base["HTTP_AUTHORIZATION"]
            together.wait()
            answer = upload(own)
        assert answer.status_code == 202
        return bytes(answer.data)

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(ask, range(8)))
    assert len(answers) == 1
    [task_id] = queued(settings)
    assert uploads(settings) == [f"{task_id}-in"]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "schl\xfcssel", "a\x7f"])
def test_a_malformed_key_is_refused_by_its_name(
    client: FlaskClient, settings: Settings, key: str
) -> None:
    answer = upload(client, key=key)

    assert answer.status_code == 422
    [error] = answer.get_json()["errors"]
    assert error["field"] == "Idempotency-Key"
    assert "1 to 255 visible ASCII characters" in error["message"]
    assert (queued(settings), uploads(settings)) == ([], [])


@pytest.mark.parametrize("key", ["x", "x" * 255, '"8e03978e"', "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"])
def test_a_key_of_any_visible_characters_is_taken(client: FlaskClient, key: str) -> None:
    first = post(client, "/api/payments", PAYMENT, key)

    assert first.status_code == 202
    assert post(client, "/api/payments", PAYMENT, key).data == first.data


def test_a_key_is_remembered_as_long_as_the_record_of_its_job(
    client: FlaskClient, settings: Settings
) -> None:
    post(client, "/api/payments", PAYMENT)

    ttl = int(str(Redis.from_url(settings.broker_url).ttl("penstock:once:k-1")))
    assert settings.records_ttl - 60 < ttl <= settings.records_ttl


# A key is used up by a job that was accepted, and by nothing else.


def test_a_request_with_wrong_values_does_not_use_up_its_key(client: FlaskClient) -> None:
    assert post(client, "/api/payments", {**PAYMENT, "amount": "-1"}).status_code == 422
    assert post(client, "/api/payments", PAYMENT).status_code == 202


def test_a_request_that_the_broker_did_not_answer_does_not_use_up_its_key(
    make_client: MakeClient, redis_server: RedisServer
) -> None:
    client = make_client(broker_url=f"{redis_server.url}/0")
    post(client, "/api/payments", PAYMENT, "another")
    redis_server.freeze()
    assert post(client, "/api/payments", PAYMENT).status_code == 503
    redis_server.thaw()
    redis_server.kill()
    assert post(client, "/api/payments", PAYMENT).status_code == 503
    redis_server.start()

    assert post(client, "/api/payments", {**PAYMENT, "amount": "20.00"}).status_code == 202


def test_a_request_whose_answer_was_lost_is_found_and_its_job_followed_when_it_is_made_again(
    make_client: MakeClient, settings: Settings, redis_port: int
) -> None:
    with LossyWire(redis_port) as wire:
        client = make_client(broker_url=f"redis://127.0.0.1:{wire.port}/0")
        wire.lose = b"penstock:once:k-1"
        assert post(client, "/api/payments", PAYMENT).status_code == 503
        assert wire.lost == 1
        [job_id] = queued(settings)

        again = post(client, "/api/payments", PAYMENT)
    assert (again.status_code, again.get_json()["task_id"]) == (202, job_id)
    assert queued(settings) == [job_id]
    status = client.get(again.get_json()["status_url"])
    assert (status.status_code, status.get_json()["state"]) == (202, "PENDING")


def test_a_request_that_is_made_again_late_does_not_call_up_a_job_whose_record_is_gone(
    client: FlaskClient, settings: Settings
) -> None:
    status_url = post(client, "/api/payments", PAYMENT).get_json()["status_url"]
    Redis.from_url(settings.results_url).flushdb()
    Redis.from_url(settings.broker_url).expire("penstock:once:k-1", settings.records_ttl - 7200)

    assert post(client, "/api/payments", PAYMENT).status_code == 202
    assert client.get(status_url).status_code == 404


def test_a_request_to_a_full_queue_does_not_use_up_its_key_and_a_known_one_is_answered(
    client: FlaskClient, settings: Settings
) -> None:
    known = post(client, "/api/payments", PAYMENT, "known")
    redis = Redis.from_url(settings.broker_url)
    with redis.pipeline() as pipe:
        for _ in range(BY_QUEUE["payment"].limit // 1000):
            pipe.rpush("payment", *["x"] * 1000)
        pipe.execute()

    assert post(client, "/api/payments", PAYMENT).status_code == 429
    assert post(client, "/api/payments", PAYMENT, "known").data == known.data
    redis.delete("payment")
    assert post(client, "/api/payments", {**PAYMENT, "order": "o-2"}).status_code == 202


def test_without_the_results_a_request_is_accepted_once_all_the_same(
    make_client: MakeClient, settings: Settings
) -> None:
    client = make_client(results_url="redis://127.0.0.1:1/0")
    first = post(client, "/api/payments", PAYMENT)

    assert first.status_code == 202
    assert post(client, "/api/payments", PAYMENT).data == first.data
    assert len(queued(settings)) == 1


def test_an_attachment_of_a_repeated_mail_is_kept_once(
    client: FlaskClient, settings: Settings
) -> None:
    content = base64.b64encode(bytes(range(256))).decode()
    mail = {**MAIL, "attachments": [{**ATTACHMENT, "content": content}]}
    task_id = post(client, "/api/send-email", mail).get_json()["task_id"]
    post(client, "/api/send-email", mail)

    assert uploads(settings) == [f"{task_id}-in"]
