"""Real workers: effects that happen once, and jobs that were cancelled or have expired."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from celery import Celery
from flask.testing import FlaskClient
from processes import environment, run, until
from redis import Redis
from servers import RedisServer

from integration.conftest import client_of
from integration.test_worker import Worker, ended
from penstock import install
from penstock.records import Records, State
from penstock.settings import Settings

APP = "integration.guarded_tasks"
QUEUE = "guarded"

Submit = Callable[..., str]


@pytest.fixture(scope="module")
def settings(shared_settings: Settings) -> Settings:
    return shared_settings


@pytest.fixture(scope="module")
def client(settings: Settings) -> FlaskClient:
    return client_of(settings)


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(tmp_path_factory.mktemp("worker"), settings, QUEUE, app=APP) as worker:
        yield worker.until_ready()


@pytest.fixture(scope="module")
def submit(settings: Settings) -> Submit:
    """Queue a job of guarded_tasks.py and return its id."""
    app = install(Celery("client", set_as_current=False), settings)
    app.conf.update(broker_url=settings.broker_url)
    records = Records.connect(settings)

    def submit(name: str, *args: Any, queue: str = QUEUE, **options: Any) -> str:
        task_id = str(uuid4())
        app.send_task(name, args=args, task_id=task_id, queue=queue, **options)
        records.open(task_id, name, queue)
        return task_id

    return submit


def effects(folder: Path) -> int:
    file = folder / "effects"
    return len(file.read_text().splitlines()) if file.exists() else 0


def letters(settings: Settings, *words: str) -> Any:
    answer = run("penstock", "dead-letters", *words, "--json", env=environment(settings))
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def decide(settings: Settings, *words: str) -> None:
    answer = run("penstock", "effects", *words, env=environment(settings))
    assert answer.returncode == 0, answer.stderr


def held(settings: Settings, queue: str = QUEUE) -> set[str]:
    """Return the ids of the jobs that wait in a queue or are held by a worker of it."""
    broker = Redis.from_url(settings.broker_url)
    keys = [queue, *broker.scan_iter(f"penstock:held:*:{queue}")]
    items = [json.loads(item) for key in keys for item in broker.lrange(key, 0, -1)]
    return {item["headers"]["id"] for item in items}


# Once


def test_an_effect_whose_worker_is_lost_after_it_is_not_had_again(
    worker: Worker, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    record = ended(settings, submit("guarded.lost_after_it", str(tmp_path)))

    assert (record.state, record.result, record.attempts) == (State.SUCCESS, "had", 2)
    assert effects(tmp_path) == 1


def test_an_effect_whose_worker_is_lost_in_it_is_had_again_where_that_is_the_policy(
    worker: Worker, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    record = ended(settings, submit("guarded.lost_in_mail", str(tmp_path)))

    assert (record.state, record.attempts) == (State.SUCCESS, 2)
    assert effects(tmp_path) == 2


@pytest.mark.parametrize(
    ("verdict", "result", "had"),
    [(["happened", "--value", '"found"'], "found", 1), (["did-not-happen"], "had", 2)],
)
def test_an_effect_whose_worker_is_lost_in_it_is_left_to_a_person(
    worker: Worker,
    settings: Settings,
    submit: Submit,
    tmp_path: Path,
    verdict: list[str],
    result: str,
    had: int,
) -> None:
    job_id = submit("guarded.lost_in_it", str(tmp_path))

    record = ended(settings, job_id)
    assert (record.state, record.reason) == (State.DEAD, "permanent error")
    assert str(record.error).startswith("UncertainEffectError")
    letter = letters(settings, "show", job_id)
    assert "UncertainEffectError" in letter["error"]
    # To replay it does not help until somebody has looked.
    assert letters(settings, "replay", job_id)["replayed"] == 1
    until(lambda: ended(settings, job_id).fence > record.fence, "the replay has ended")
    assert ended(settings, job_id).state == State.DEAD
    assert effects(tmp_path) == 1

    verb, *options = verdict
    decide(settings, verb, job_id, "effect", *options)
    letters(settings, "replay", job_id)
    until(lambda: ended(settings, job_id).state == State.SUCCESS, "the replay has succeeded")
    assert ended(settings, job_id).result == result
    assert effects(tmp_path) == had


def test_nothing_can_be_decided_about_an_effect_that_is_not_uncertain(settings: Settings) -> None:
    for words in (["happened", "j", "effect"], ["did-not-happen", "j", "effect"]):
        answer = run("penstock", "effects", *words, env=environment(settings))
        assert (answer.returncode, answer.stdout) == (2, "")
        assert "nothing is uncertain about the effect 'effect' of job j" in answer.stderr
    words = ["happened", "j", "effect", "--value", "{"]
    assert (
        "--value is not JSON"
        in run("penstock", "effects", *words, env=environment(settings)).stderr
    )


def test_an_effect_that_was_put_off_is_had_by_the_retry(
    worker: Worker, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    record = ended(settings, submit("guarded.busy", str(tmp_path), 0.0))

    assert (record.state, record.attempts) == (State.SUCCESS, 2)
    assert effects(tmp_path) == 1


# Cancelled


def cancel(client: FlaskClient, job_id: str) -> str:
    answer = client.post(f"/api/task-status/{job_id}/cancel")
    assert answer.status_code == 200
    state: str = answer.get_json()["state"]
    return state


def test_a_running_job_that_is_cancelled_ends_at_its_next_progress(
    worker: Worker, client: FlaskClient, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    job_id = submit("guarded.steps", str(tmp_path))
    worker.until((tmp_path / "begun").exists, "the job has begun")
    assert cancel(client, job_id) == "CANCELLED"

    until(lambda: held(settings) == set(), "the job has ended")
    record = ended(settings, job_id)
    assert (record.state, record.attempts) == (State.CANCELLED, 1)
    assert client.get(f"/api/task-status/{job_id}").status_code == 200


def test_a_job_that_is_cancelled_while_it_waits_for_its_retry_is_not_tried_again(
    worker: Worker, client: FlaskClient, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    job_id = submit("guarded.busy", str(tmp_path), 3600.0)
    broker = Redis.from_url(settings.broker_url)
    delayed = f"penstock:delayed:{QUEUE}"
    until(lambda: broker.zcard(delayed), "the job waits for its retry")
    assert cancel(client, job_id) == "CANCELLED"

    broker.zincrby(delayed, -1e13, cast("list[bytes]", broker.zrange(delayed, 0, -1))[0])
    until(lambda: not broker.zcard(delayed), "the job is due")
    # Moved to the queue by the same step, and taken from there.
    until(lambda: held(settings) == set(), "the job has ended")
    record = ended(settings, job_id)
    assert (record.state, record.attempts, effects(tmp_path)) == (State.CANCELLED, 1, 0)


def test_a_job_that_is_cancelled_before_a_worker_takes_it_never_starts(
    client: FlaskClient, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    cancelled, other = (
        submit("guarded.busy", str(tmp_path), 0.0, queue="waiting") for _ in range(2)
    )
    assert cancel(client, cancelled) == "CANCELLED"

    with Worker(tmp_path, settings, "waiting", app=APP) as worker:
        worker.until_ready()
        assert ended(settings, other).state == State.SUCCESS
        until(lambda: held(settings, "waiting") == set(), "both have ended")
    record = ended(settings, cancelled)
    assert (record.state, record.attempts, effects(tmp_path)) == (State.CANCELLED, 0, 1)


def test_a_cancelled_job_does_not_start_when_the_results_are_away_either(
    settings: Settings, submit: Submit, tmp_path: Path, redis_server: RedisServer
) -> None:
    away = settings.model_copy(update={"results_url": f"{redis_server.url}/0"})
    cancelled, _ = (submit("guarded.busy", str(tmp_path), 0.0, queue="apart") for _ in range(2))
    records = Records.connect(away)
    records.open(cancelled, "guarded.busy", "apart")
    assert records.cancel(cancelled) == State.PENDING

    redis_server.kill()
    with Worker(tmp_path, away, "apart", app=APP) as worker:
        worker.until_ready()
        worker.until(lambda: effects(tmp_path), "the other job has had its effect")
        until(lambda: held(settings, "apart") == set(), "both have ended")
    assert effects(tmp_path) == 1


# Expired


def test_a_job_that_expires_before_it_begins_is_expired_for_all_to_see(
    worker: Worker, client: FlaskClient, settings: Settings, submit: Submit, tmp_path: Path
) -> None:
    expires = datetime.now(UTC) - timedelta(seconds=5)
    job_id = submit("guarded.busy", str(tmp_path), 0.0, expires=expires)

    assert ended(settings, job_id).state == State.EXPIRED
    status = client.get(f"/api/task-status/{job_id}")
    assert (status.status_code, status.get_json()["state"]) == (200, "EXPIRED")
    assert client.post(f"/api/task-status/{job_id}/cancel").status_code == 409
    assert letters(settings, "show", job_id)["reason"] == "expired"
    assert effects(tmp_path) == 0
