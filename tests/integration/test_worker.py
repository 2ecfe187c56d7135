"""Workers as an operator runs them: real processes on a real Redis, mail server and provider."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any, Self
from uuid import uuid4

import pytest
from flask import request
from flask.testing import FlaskClient
from processes import Running, environment, free_port, run, until
from redis import Redis
from servers import MailServer
from werkzeug.serving import make_server

from integration.conftest import client_of
from penstock.catalogue import BY_QUEUE
from penstock.drain import IDLE
from penstock.records import Record, Records, State
from penstock.settings import Settings
from penstock.stack import make_app
from penstock_dev.provider import Ledger, create_app
from penstock_dev.redis_server import find_redis_server

TESTS = Path(__file__).parents[1]
PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}
NOBODY = "redis://127.0.0.1:1/0"

Submit = Callable[..., str]


class PaymentProvider:
    """The development provider, with a ledger of its own; answers 503 to the next `refusals`."""

    def __init__(self, ledger: Path) -> None:
        self.refusals = 0
        self.ledger = Ledger(ledger)
        app = create_app(self.ledger)

        @app.before_request
        def _refuse() -> tuple[str, int] | None:
            if not self.refusals or request.method != "POST":
                return None
            self.refusals -= 1
            return "the gate is shut", 503

        self.server = make_server("127.0.0.1", 0, app, threaded=True)

    def __enter__(self) -> Self:
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()

    def charges(self, reference: str) -> list[dict[str, Any]]:
        return [made for made in self.ledger.charges.values() if made["reference"] == reference]


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaymentProvider]:
    with PaymentProvider(tmp_path_factory.mktemp("provider") / "ledger.jsonl") as provider:
        yield provider


@pytest.fixture(scope="module")
def mailbox() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def settings(shared_settings: Settings, payments: PaymentProvider, mailbox: MailServer) -> Settings:
    provider_url = f"http://127.0.0.1:{payments.server.port}"
    return shared_settings.model_copy(
        update={"smtp_port": mailbox.port, "payment_url": provider_url, "retry_scale": 0.005}
    )


@pytest.fixture(scope="module")
def client(settings: Settings) -> FlaskClient:
    return client_of(settings)


class Worker(Running):
    """A worker in a folder of its own, where its log and its heartbeat are."""

    def __init__(
        self, folder: Path, settings: Settings, queues: str, app: str = "penstock.app"
    ) -> None:
        self.heartbeat = folder / "heartbeat"
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        super().__init__(
            *("celery", "--app", app, "worker", "--queues", queues, "--hostname", f"{queues}@%h"),
            env={**environment(settings, heartbeat=self.heartbeat), "PYTHONPATH": path},
            log=folder / "worker.log",
        )

    def until_ready(self) -> Self:
        self.until(self.heartbeat.exists, "the worker is ready")
        return self


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker of the two queues whose jobs talk to other servers."""
    with Worker(tmp_path_factory.mktemp("worker"), settings, "email,payment") as worker:
        yield worker.until_ready()


@pytest.fixture(scope="module")
def slow_worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker of the jobs in slow_tasks.py, which come through the queue `image`."""
    folder = tmp_path_factory.mktemp("slow")
    with Worker(folder, settings, "image", app="integration.slow_tasks") as worker:
        yield worker.until_ready()


@pytest.fixture(scope="module")
def submit(settings: Settings) -> Submit:
    """Queue a job of slow_tasks.py and return its id."""
    app = make_app(settings)

    def submit(name: str, *args: object) -> str:
        task_id = str(uuid4())
        app.send_task(name, args=[str(arg) for arg in args], task_id=task_id, queue="image")
        return task_id

    return submit


def ended(settings: Settings, task_id: str) -> Record:
    """Return the record of a job as soon as the job has ended."""
    records = Records.connect(settings)

    def read() -> Record | None:
        record = records.read(task_id)
        return record if record and record.state.final else None

    record = until(read, f"job {task_id} has ended")
    assert record
    return record


def posted(client: FlaskClient, path: str, body: dict[str, Any]) -> str:
    answer = client.post(path, json=body)
    assert answer.status_code == 202
    task_id: str = answer.get_json()["task_id"]
    return task_id


# Jobs


def test_a_worker_of_several_queues_does_the_jobs_of_each(
    worker: Worker,
    client: FlaskClient,
    settings: Settings,
    payments: PaymentProvider,
    mailbox: MailServer,
) -> None:
    mail = posted(client, "/api/notifications", {"user_id": 1, "title": "Gate", "message": "Open."})
    payment = posted(client, "/api/payments", {**PAYMENT, "order": "both"})

    records = [ended(settings, task_id) for task_id in (mail, payment)]
    assert [(record.queue, record.state) for record in records] == [
        ("email", State.SUCCESS),
        ("payment", State.SUCCESS),
    ]
    [message] = mailbox.messages
    assert message["Subject"] == "Gate"
    [charge] = payments.charges("both")
    assert (charge["amount"], charge["currency"]) == (1990, "EUR")


def test_a_client_follows_a_job_from_its_202_to_its_result(
    worker: Worker, client: FlaskClient, payments: PaymentProvider
) -> None:
    accepted = client.post("/api/payments", json={**PAYMENT, "order": "followed"}).get_json()
    answers = [client.get(accepted["status_url"])]

    def has_ended() -> bool:
        answers.append(client.get(accepted["status_url"]))
        return answers[-1].status_code == 200

    until(has_ended, "the job has ended")
    assert {answer.status_code for answer in answers[:-1]} == {202}
    status = answers[-1].get_json()
    [charge] = payments.charges("followed")
    assert (status["state"], status["attempts"]) == ("SUCCESS", 1)
    assert status["result"] == {"charge_id": charge["id"], "amount": "19.90", "currency": "EUR"}
    assert status["queued_at"] <= status["started_at"] <= status["finished_at"]
    assert "error" not in status


def test_a_provider_that_is_away_for_a_while_is_asked_until_it_charges_once(
    worker: Worker, client: FlaskClient, settings: Settings, payments: PaymentProvider
) -> None:
    payments.refusals = 2
    redis = Redis.from_url(settings.results_url, decode_responses=True, socket_timeout=30)
    with redis.monitor() as commands:  # type: ignore[no-untyped-call]
        task_id = posted(client, "/api/payments", {**PAYMENT, "order": "patient"})
        states = []
        for command in commands.listen():
            words = command["command"].split()
            if words[:2] == ["HSET", f"penstock:job:{task_id}"] and "state" in words:
                states.append(words[words.index("state") + 1])
            if states[-1:] == ["SUCCESS"]:
                break

    # The next attempt may begin before it is noted that there will be one, which is then left out.
    assert [state for state in states if state != "RETRY"] == [*["STARTED"] * 3, "SUCCESS"]
    assert "RETRY" in states
    record = ended(settings, task_id)
    assert record.attempts == 3
    # What went wrong on the way is no part of the end.
    assert (record.error, record.retry_at) == (None, None)
    [charge] = payments.charges("patient")
    assert charge["idempotency_key"] == task_id


def test_a_declined_payment_fails_at_once_with_the_reason(
    worker: Worker, client: FlaskClient, settings: Settings, payments: PaymentProvider
) -> None:
    task_id = posted(client, "/api/payments", {**PAYMENT, "order": "decline-1"})

    record = ended(settings, task_id)
    assert (record.state, record.attempts) == (State.DEAD, 1)
    assert record.error
    assert "the card was declined" in record.error
    assert "\n" not in record.error
    assert payments.charges("decline-1") == []


def test_a_job_over_its_time_limit_fails_with_that_reason(
    slow_worker: Worker, settings: Settings, submit: Submit
) -> None:
    record = ended(settings, submit("slow.sleep"))

    assert (record.state, record.error) == (State.DEAD, "took longer than its time limit")
    assert record.attempts == 1


def test_a_job_whose_process_is_killed_is_done_by_another(
    slow_worker: Worker, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    record = ended(settings, submit("slow.lose_process", tmp_path / "begun"))

    assert (record.state, record.result) == (State.SUCCESS, "done by another process")
    assert record.attempts == 2


# The end of a worker


def test_a_worker_that_is_told_to_stop_finishes_its_job_and_takes_no_other(
    settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    with Worker(tmp_path, settings, "report", app="integration.slow_tasks") as worker:
        worker.until_ready()
        task_id = submit("slow.wait", begun, go)
        worker.until(begun.exists, "the job has begun")
        worker.process.terminate()
        worker.until(lambda: not worker.heartbeat.exists(), "the worker stops taking messages")
        # Longer than a worker gets that has nothing to do.
        sleep(IDLE + 1)
        go.touch()
        assert worker.process.wait(30) == 0
    assert ended(settings, task_id).state == State.SUCCESS
    assert not worker.heartbeat.exists()


def test_a_worker_with_nothing_to_do_ends_though_celery_waits_for_something(
    settings: Settings, tmp_path: Path
) -> None:
    with Worker(tmp_path, settings, "report", app="integration.stuck_tasks") as worker:
        worker.until_ready()
        worker.process.terminate()
        assert worker.process.wait(IDLE + 30) == 0
        assert "has not ended by itself" in worker.said


def test_so_does_one_that_is_told_to_stop_while_it_starts(
    settings: Settings, tmp_path: Path
) -> None:
    with Worker(tmp_path, settings, "report", app="integration.hurried_tasks") as worker:
        assert worker.process.wait(IDLE + 30) == 0
        assert "has not ended by itself" in worker.said


# The beginning of a worker


def refusal(settings: Settings, queues: str, **changes: object) -> str:
    """Return the one line with which a worker refuses to start."""
    env = environment(settings.model_copy(update=changes))
    answer = run("celery", "--app", "penstock.app", "worker", "--queues", queues, env=env)
    assert (answer.returncode, answer.stdout) == (2, "")
    [line] = answer.stderr.splitlines()
    return line


def test_a_queue_that_is_not_there_is_refused_with_those_that_are(settings: Settings) -> None:
    line = refusal(settings, "email,nope")
    assert "'nope'" in line
    assert ", ".join(BY_QUEUE) in line


def test_a_redis_that_is_down_ends_the_worker_with_its_setting(settings: Settings) -> None:
    line = refusal(settings, "payment", broker_url=NOBODY)
    assert f"cannot reach the broker Redis at {NOBODY}" in line
    assert "check PENSTOCK_BROKER_URL" in line


def test_a_database_that_is_down_ends_a_worker_whose_jobs_read_it(settings: Settings) -> None:
    url = "postgresql://penstock:secret@127.0.0.1:1/penstock"
    line = refusal(settings, "payment,report", database_url=url)
    assert "cannot reach the database at postgresql://127.0.0.1:1/penstock" in line
    assert "check PENSTOCK_DATABASE_URL" in line
    assert "secret" not in line


def test_a_worker_waits_for_a_redis_that_is_still_starting(
    settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    urls = {f"{role}_url": f"redis://127.0.0.1:{port}/0" for role in ("broker", "results")}
    late = settings.model_copy(update={**urls, "wait": 30})
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
    command = [find_redis_server(), *words]
    with closing(socket.create_server(("127.0.0.1", port))) as nobody, \
            Worker(tmp_path, late, "payment") as worker:  # fmt: skip
        # It asks, and is hung up on.
        nobody.accept()[0].close()
        nobody.close()
        redis = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        try:
            worker.until_ready()
        finally:
            redis.terminate()
            redis.wait()
