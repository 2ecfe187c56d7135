"""Jobs over HTTP: what is accepted, what is refused, and what a client can see of them."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from PIL import Image
from redis import Redis
from werkzeug.test import TestResponse

from penstock.contracts import StoredFile
from penstock.records import Records, State
from penstock.settings import Settings
from penstock.storage.folder import Folder

MakeClient = Callable[..., FlaskClient]

MAIL = {"to": ["a@example.com"], "subject": "S", "text": "T"}
PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}
REPORT = {"dataset": "orders", "formats": ["csv", "xlsx"]}
ACCEPTED = [
    ("/api/send-email", MAIL, "email", "email.send"),
    ("/api/notifications", {"user_id": 1, "title": "T", "message": "M"}, "email", None),
    ("/api/reports", REPORT, "report", "report.export"),
    ("/api/payments", PAYMENT, "payment", "payment.process"),
]


def queued(settings: Settings, queue: str) -> list[dict[str, Any]]:
    """Return the messages that wait in a queue: their headers, and their arguments as `job`."""
    messages = [json.loads(raw) for raw in Redis.from_url(settings.broker_url).lrange(queue, 0, -1)]
    for message in messages:
        message["job"] = json.loads(base64.b64decode(message["body"]))[1]["job"]
    return messages


def nothing_queued(settings: Settings) -> bool:
    return not any(queued(settings, queue) for queue in ("email", "image", "report", "payment"))


def picture(format_: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise(size, 50).save(stream, format_)
    return stream.getvalue()


def upload(
    client: FlaskClient, content: bytes, content_type: str = "image/png", **form: str
) -> TestResponse:
    data = {"file": (io.BytesIO(content), "picture", content_type), **form}
    return client.post("/api/images", data=data)


def problems(answer: TestResponse) -> dict[str, str]:
    assert answer.content_type == "application/problem+json"
    return {error["field"]: error["message"] for error in answer.get_json()["errors"]}


@pytest.mark.parametrize(("path", "body", "queue", "job"), ACCEPTED)
def test_a_job_is_queued_and_answered_with_where_to_follow_it(
    client: FlaskClient, settings: Settings, path: str, body: Any, queue: str, job: str | None
) -> None:
    answer = client.post(path, json=body)

    accepted = answer.get_json()
    assert answer.status_code == 202
    assert accepted["message"]
    assert accepted["status_url"] == f"/api/task-status/{accepted['task_id']}"
    assert answer.headers["Location"] == accepted["status_url"]
    [message] = queued(settings, queue)
    assert message["headers"]["id"] == accepted["task_id"]
    assert job in (None, message["headers"]["task"])


def test_a_notification_carries_its_users_name_and_address_and_shows_neither(
    client: FlaskClient, settings: Settings
) -> None:
    user = client.get("/api/user/1").get_json()
    client.post("/api/notifications", json={"user_id": 1, "title": "T", "message": "M"})

    [message] = queued(settings, "email")
    assert message["job"] == {
        "user_id": 1,
        "title": "T",
        "message": "M",
        "name": user["name"],
        "email": user["email"],
    }
    assert user["name"] not in str(message["headers"])
    assert user["email"] not in str(message["headers"])


def test_a_notification_to_nobody_is_refused_at_once(
    client: FlaskClient, settings: Settings
) -> None:
    notice = {"user_id": 2**31 - 1, "title": "T", "message": "M"}
    answer = client.post("/api/notifications", json=notice)

    assert answer.status_code == 422
    assert problems(answer) == {"user_id": "there is no user 2147483647"}
    assert nothing_queued(settings)


def test_a_notification_while_the_database_is_away_is_to_be_tried_again(
    make_client: MakeClient, settings: Settings
) -> None:
    client = make_client(database_url=f"sqlite:///{settings.files}/absent/penstock.db")
    answer = client.post("/api/notifications", json={"user_id": 1, "title": "T", "message": "M"})

    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) >= 1
    assert nothing_queued(settings)


def test_a_job_that_waits_is_pending_and_the_client_is_told_when_to_look_again(
    client: FlaskClient,
) -> None:
    url = client.post("/api/payments", json=PAYMENT).get_json()["status_url"]
    answer = client.get(url)

    assert answer.status_code == 202
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.get_json()["state"] == "PENDING"
    assert answer.get_json()["queue"] == "payment"


def test_an_id_that_was_never_issued_is_a_404(client: FlaskClient) -> None:
    for task_id in (str(uuid4()), "x", "%00", "a:b"):
        answer = client.get(f"/api/task-status/{task_id}")
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_a_running_job_shows_its_progress(client: FlaskClient, settings: Settings) -> None:
    records = Records.connect(settings)
    records.note("j", State.STARTED, 1, job="report.export", queue="report")
    records.note("j", State.PROGRESS, 1, progress=250, total=1000)
    answer = client.get("/api/task-status/j")

    assert answer.status_code == 202
    status = answer.get_json()
    assert (status["state"], status["progress"], status["total"]) == ("PROGRESS", 250, 1000)


def test_a_job_that_succeeded_shows_its_result_with_addresses_of_its_files(
    client: FlaskClient, settings: Settings
) -> None:
    task_id = str(uuid4())
    files = Folder(Path(settings.files))
    with files.writing(f"{task_id}/orders.csv") as stream:
        stream.write(b"id\n1\n")
    kept = files.describe(f"{task_id}/orders.csv", "text/csv").model_dump()
    result = json.dumps({"rows": 1, "files": [kept]})
    Records.connect(settings).note(task_id, State.SUCCESS, 1, result=result)

    answer = client.get(f"/api/task-status/{task_id}")
    assert answer.status_code == 200
    status = answer.get_json()
    assert (status["state"], status["result"]["rows"]) == ("SUCCESS", 1)
    [file] = status["result"]["files"]
    assert "key" not in file
    download = client.get(file["url"])
    assert download.data == b"id\n1\n"
    assert "orders.csv" in download.headers["Content-Disposition"]


def test_a_job_that_failed_for_good_is_a_200_with_its_reason(
    client: FlaskClient, settings: Settings
) -> None:
    records = Records.connect(settings)
    error = "ProviderRefusedError: the card was declined"
    records.note("j", State.DEAD, 1, error=error, reason="permanent error")
    answer = client.get("/api/task-status/j")

    assert answer.status_code == 200
    assert answer.get_json()["state"] == "DEAD"
    assert "declined" in answer.get_json()["error"]


def test_a_job_that_will_be_tried_again_says_when(client: FlaskClient, settings: Settings) -> None:
    records = Records.connect(settings)
    records.note("j", State.STARTED, 1)
    error = "ProviderUnavailableError: the provider answered 503"
    records.note("j", State.RETRY, 2, error=error, retry_at=2_000_000_000)
    answer = client.get("/api/task-status/j")

    assert answer.status_code == 202
    assert answer.get_json()["state"] == "RETRY"
    assert answer.get_json()["retry_at"] == 2_000_000_000


@pytest.mark.parametrize(
    "path",
    ["/api/files/../../etc/passwd", f"/api/files/{uuid4()}/..%2f..%2fkeys", "/api/files/x/y"],
)
def test_only_outcomes_of_jobs_can_be_downloaded(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_what_was_uploaded_cannot_be_downloaded(client: FlaskClient, settings: Settings) -> None:
    task_id = upload(client, picture()).get_json()["task_id"]

    assert (Path(settings.files) / f"{task_id}-in" / "original").exists()
    assert client.get(f"/api/files/{task_id}/original").status_code == 404
    assert client.get(f"/api/files/{task_id}-in/original").status_code == 404


# What cannot be accepted: 422, each field by name, and nothing queued.


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', b"\xff", "NaN", "[" * 5000])
@pytest.mark.parametrize("path", [path for path, *_ in ACCEPTED])
def test_a_body_that_is_no_json_object_is_refused(
    client: FlaskClient, settings: Settings, path: str, body: str | bytes
) -> None:
    answer = client.post(path, data=body, content_type="application/json")

    assert answer.status_code == 422
    assert problems(answer)
    assert nothing_queued(settings)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/send-email", {"subject": "S", "text": "T"}, "to"),
        ("/api/send-email", {**MAIL, "to": []}, "to"),
        ("/api/send-email", {**MAIL, "to": ["a@example.com\nBcc: b@example.com"]}, "to.0"),
        ("/api/send-email", {**MAIL, "to": ["a@example.com\r\n"]}, "to.0"),
        ("/api/send-email", {**MAIL, "to": ["nobody"]}, "to.0"),
        ("/api/send-email", {**MAIL, "cc": ["a@example.com, b@example.com"]}, "cc.0"),
        ("/api/send-email", {**MAIL, "reply_to": "a@example.com\r\nX: y"}, "reply_to"),
        ("/api/send-email", {**MAIL, "subject": "Hi\r\nBcc: b@example.com"}, "subject"),
        ("/api/send-email", {**MAIL, "subject": "Hi\x85Bcc: b@example.com"}, "subject"),
        ("/api/send-email", {**MAIL, "subject": "Hi\u2028Bcc: b@example.com"}, "subject"),
        ("/api/send-email", {**MAIL, "colour": "red"}, "colour"),
        ("/api/send-email", {"to": ["a@example.com"], "subject": "S"}, "body"),
        ("/api/send-email", {**MAIL, "template": "welcome", "context": {"name": "A"}}, "body"),
        ("/api/send-email", {**MAIL, "text": None, "template": "none"}, "template"),
        (
            "/api/send-email",
            {
                **MAIL,
                "attachments": [{"name": "a\r\nb", "content_type": "text/csv", "content": "YQ=="}],
            },
            "attachments.0.name",
        ),
        (
            "/api/send-email",
            {
                **MAIL,
                "attachments": [{"name": "a", "content_type": "text/csv", "content": "*"}],
            },
            "attachments.0.content",
        ),
        ("/api/notifications", {"user_id": 0, "title": "T", "message": "M"}, "user_id"),
        ("/api/notifications", {"user_id": 1, "title": "a\nb", "message": "M"}, "title"),
        ("/api/reports", {"dataset": "secrets"}, "dataset"),
        ("/api/reports", {**REPORT, "formats": ["pdf"]}, "formats.0"),
        ("/api/reports", {**REPORT, "formats": []}, "formats"),
        ("/api/reports", {**REPORT, "columns": ["password"]}, "columns"),
        ("/api/reports", {**REPORT, "filters": ["status ~ paid"]}, "filters"),
        ("/api/reports", {**REPORT, "filters": ["1=1; drop table users"]}, "filters"),
        ("/api/reports", {**REPORT, "filters": ["amount > much"]}, "filters"),
        ("/api/payments", {**PAYMENT, "amount": "-1"}, "amount"),
        ("/api/payments", {**PAYMENT, "amount": "0"}, "amount"),
        ("/api/payments", {**PAYMENT, "amount": "ten"}, "amount"),
        ("/api/payments", {**PAYMENT, "amount": "NaN"}, "amount"),
        ("/api/payments", {**PAYMENT, "amount": 19.9}, "amount"),
        ("/api/payments", {**PAYMENT, "amount": "19.999"}, "amount"),
        ("/api/payments", {**PAYMENT, "amount": "1.5", "currency": "JPY"}, "amount"),
        ("/api/payments", {**PAYMENT, "currency": "XXX"}, "currency"),
        ("/api/payments", {**PAYMENT, "currency": ["EUR"]}, "currency"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    client: FlaskClient, settings: Settings, path: str, body: Any, field: str
) -> None:
    answer = client.post(path, json=body)

    assert answer.status_code == 422
    assert field in problems(answer)
    assert nothing_queued(settings)


def test_every_wrong_field_is_named_at_once(client: FlaskClient) -> None:
    answer = client.post("/api/payments", json={"amount": "-1", "colour": "red"})

    assert problems(answer).keys() == {"order", "amount", "currency", "colour"}


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"dataset": "x"}, "'users', 'articles' or 'orders'"),
        ({**REPORT, "formats": ["pdf"]}, "'csv' or 'xlsx'"),
        ({**REPORT, "columns": ["x"]}, "id, user_id, item"),
        ({**REPORT, "filters": ["x = 1"]}, "id, user_id, item"),
        ({**REPORT, "filters": ["item"]}, "<= >= != = < >"),
    ],
)
def test_a_report_that_cannot_be_names_what_can(
    client: FlaskClient, body: Any, allowed: str
) -> None:
    assert allowed in json.dumps(problems(client.post("/api/reports", json=body)))


# Uploads


@pytest.mark.parametrize(
    ("format_", "content_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")],
)
def test_a_picture_is_kept_and_queued_with_its_renditions(
    client: FlaskClient, settings: Settings, format_: str, content_type: str
) -> None:
    content = picture(format_)
    renditions = json.dumps([{"name": "small", "width": 8, "height": 8}])
    answer = upload(client, content, content_type, renditions=renditions)

    assert answer.status_code == 202
    [message] = queued(settings, "image")
    source = StoredFile.model_validate(message["job"]["source"])
    assert (source.content_type, source.size) == (content_type, len(content))
    assert Folder(Path(settings.files)).path(source.key).read_bytes() == content
    assert [rendition["name"] for rendition in message["job"]["renditions"]] == ["small"]


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.97])
def test_a_picture_that_is_cut_off_is_refused(
    client: FlaskClient, settings: Settings, format_: str, part: float
) -> None:
    content = picture(format_, (200, 200))
    answer = upload(client, content[: int(len(content) * part)], "application/octet-stream")

    assert answer.status_code == 422
    assert "file" in problems(answer)
    assert nothing_queued(settings)
    assert not Path(settings.files).exists()


@pytest.mark.parametrize("content", [b"", b"text", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_refused(client: FlaskClient, content: bytes) -> None:
    assert "JPEG, PNG, WEBP" in problems(upload(client, content))["file"]


def test_a_picture_that_claims_another_type_is_refused(client: FlaskClient) -> None:
    message = problems(upload(client, picture("PNG"), "image/jpeg"))["file"]

    assert "image/jpeg" in message
    assert "image/png" in message


def test_a_picture_with_too_many_pixels_is_refused_by_its_header(client: FlaskClient) -> None:
    content = bytearray(picture("PNG"))
    content[16:24] = (40_000).to_bytes(4) * 2
    content[29:33] = __import__("zlib").crc32(content[12:29]).to_bytes(4)

    message = problems(upload(client, bytes(content)))["file"]
    assert "40,000 x 40,000" in message
    assert "50,000,000" in message


def test_an_upload_over_the_limit_is_a_413_that_names_it(make_client: MakeClient) -> None:
    answer = upload(make_client(upload_max=1000), b"x" * 100_000)

    assert answer.status_code == 413
    assert "1,000 bytes" in answer.get_json()["detail"]


@pytest.mark.parametrize(
    ("renditions", "field"),
    [
        ("{", "renditions"),
        ("[]", "renditions"),
        ('[{"name": "a", "width": 0, "height": 1}]', "renditions.0.width"),
        ('[{"name": "a", "width": 9000, "height": 1}]', "renditions.0.width"),
        ('[{"name": "../a", "width": 1, "height": 1}]', "renditions.0.name"),
        ('[{"name": "a", "width": 1, "height": 1, "format": "bmp"}]', "renditions.0.format"),
        ('[{"name": "a", "width": 1, "height": 1, "fit": "squeeze"}]', "renditions.0.fit"),
        (json.dumps([{"name": "a", "width": 1, "height": 1}] * 2), "renditions"),
    ],
)
def test_a_rendition_that_cannot_be_made_is_refused_by_name(
    client: FlaskClient, settings: Settings, renditions: str, field: str
) -> None:
    answer = upload(client, picture(), renditions=renditions)

    assert answer.status_code == 422
    assert field in problems(answer)
    assert nothing_queued(settings)


def test_an_upload_without_a_file_or_with_unknown_fields_is_refused(client: FlaskClient) -> None:
    assert "file" in problems(client.post("/api/images", data={"x": "y"}))
    assert "file" in problems(client.post("/api/images", json={}))
    assert "colour" in problems(upload(client, picture(), colour="red"))


def test_an_attachment_goes_through_the_shared_folder_and_not_the_broker(
    client: FlaskClient, settings: Settings
) -> None:
    content = base64.b64encode(b"a,b\n1,2\n").decode()
    attachment = {"name": "table.csv", "content_type": "text/csv", "content": content}
    client.post("/api/send-email", json={**MAIL, "attachments": [attachment]})

    [message] = queued(settings, "email")
    [stored] = message["job"]["attachments"]
    assert stored["name"] == "table.csv"
    assert Folder(Path(settings.files)).path(stored["key"]).read_bytes() == b"a,b\n1,2\n"
    assert content not in json.dumps(message["job"])


# The key


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic key-of-the-tests", "key-of-the-tests"],
)
@pytest.mark.parametrize("path", ["/api/articles", "/api/task-status/x", "/nowhere"])
def test_without_the_key_nothing_is_answered_and_all_refusals_are_alike(
    client: FlaskClient, header: str | None, path: str
) -> None:
    del client.environ_base["HTTP_AUTHORIZATION"]
    answer = client.get(path, headers={"Authorization": header} if header is not None else {})
    wrong = client.get("/api/articles", headers={"Authorization": "Bearer another"})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (answer.data, answer.content_type) == (wrong.data, "application/problem+json")


def test_a_job_that_is_posted_without_the_key_is_not_queued(
    client: FlaskClient, settings: Settings
) -> None:
    del client.environ_base["HTTP_AUTHORIZATION"]

    assert client.post("/api/payments", json=PAYMENT).status_code == 401
    assert nothing_queued(settings)


def test_every_error_is_a_problem(client: FlaskClient) -> None:
    for answer in (client.get("/nowhere"), client.put("/api/articles"), client.get("/api/images")):
        assert answer.content_type == "application/problem+json"
        assert answer.get_json()["status"] == answer.status_code
    assert "GET" in client.put("/api/articles").headers["Allow"]
