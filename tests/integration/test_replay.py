"""A job that died, mended and replayed: with a real worker, broker and mail server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from processes import Running, environment, until
from servers import MailServer

from integration.conftest import client_of
from penstock.settings import Settings

MAIL = {"to": ["nobody@example.com"], "subject": "The gate", "text": "It is open."}


@pytest.fixture(scope="module")
def mailbox() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def settings(shared_settings: Settings, mailbox: MailServer) -> Settings:
    return shared_settings.model_copy(update={"smtp_port": mailbox.port})


@pytest.fixture(scope="module")
def client(settings: Settings) -> FlaskClient:
    return client_of(settings)


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("worker")
    heartbeat = folder / "heartbeat"
    command = ("celery", "--app", "penstock.app", "worker", "--queues", "email")
    env = environment(settings, heartbeat=heartbeat)
    with Running(*command, env=env, log=folder / "worker.log") as worker:
        worker.until(heartbeat.exists, "the worker is ready")
        yield worker


def dead(client: FlaskClient, mailbox: MailServer) -> str:
    """Post a mail that its server refuses for good; return the job's id when it has died."""
    mailbox.answers["nobody@example.com"].append("550 there is nobody of that name")
    task_id: str = client.post("/api/send-email", json=MAIL).get_json()["task_id"]
    until(lambda: letter(client, task_id), "the job has died")
    return task_id


def letter(client: FlaskClient, task_id: str) -> dict[str, Any] | None:
    answer = client.get(f"/api/dead-letters/{task_id}")
    found: dict[str, Any] = answer.get_json()
    return found if answer.status_code == 200 else None


def status(client: FlaskClient, task_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"/api/task-status/{task_id}").get_json()
    return answer


def test_a_job_runs_with_the_arguments_that_its_letter_is_replayed_with(
    worker: Running, client: FlaskClient, mailbox: MailServer
) -> None:
    task_id = dead(client, mailbox)
    url = f"/api/dead-letters/{task_id}"
    found = letter(client, task_id)
    assert found
    assert "550" in found["error"]
    assert found["reason"] == "permanent error"
    assert found["traceback"].startswith("Traceback")

    changed = {**found["kwargs"]["job"], "to": ["somebody@example.com"]}
    assert client.post(f"{url}/replay", json={"job": changed}).status_code == 202
    until(lambda: status(client, task_id)["state"] == "SUCCESS", "the replayed job is done")
    [mail] = mailbox.messages
    assert (mail["To"], mail["Subject"]) == ("somebody@example.com", "The gate")
    record = status(client, task_id)
    assert record["attempts"] == 2
    assert "error" not in record
    assert letter(client, task_id) is None


def test_a_job_that_dies_again_is_a_letter_again_with_all_of_its_attempts(
    worker: Running, client: FlaskClient, mailbox: MailServer
) -> None:
    task_id = dead(client, mailbox)
    mailbox.answers["nobody@example.com"].append("550 still nobody")
    assert client.post(f"/api/dead-letters/{task_id}/replay").status_code == 202

    found = until(lambda: letter(client, task_id), "the job has died again")
    assert found
    assert ["550" in attempt["error"] for attempt in found["attempts"]] == [True, True]
    until(lambda: status(client, task_id)["state"] == "DEAD", "the record says so")
    assert "still nobody" in status(client, task_id)["error"]
