"""The scheduler as an operator runs it: a real process on a real Redis."""

import base64
import json
import shelve
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from processes import Running, environment, run
from redis import Redis

from penstock.contracts import FilesExpire
from penstock.settings import Settings

COMMAND = ("celery", "--app", "penstock.app", "beat")

Start = Callable[[], Running]


@pytest.fixture
def heartbeat(tmp_path: Path) -> Path:
    return tmp_path / "heartbeat"


@pytest.fixture
def start(settings: Settings, heartbeat: Path, tmp_path: Path) -> Start:
    env = environment(settings, heartbeat=heartbeat)
    return lambda: Running(*COMMAND, env=env, log=tmp_path / "scheduler.log")


def sent(settings: Settings) -> list[dict[str, Any]]:
    raw = Redis.from_url(settings.broker_url).lrange("report", 0, -1)
    return [json.loads(message) for message in raw]


def until_it_beats_twice(scheduler: Running, heartbeat: Path) -> None:
    scheduler.until(heartbeat.exists, "the first beat")
    first = heartbeat.stat().st_mtime_ns
    scheduler.until(lambda: heartbeat.stat().st_mtime_ns > first, "the second beat")


def test_the_scheduler_beats_while_it_runs_and_ends_when_it_is_told_to(
    start: Start, heartbeat: Path, settings: Settings
) -> None:
    with start() as scheduler:
        until_it_beats_twice(scheduler, heartbeat)
        assert scheduler.end(signal.SIGTERM) == 0
    assert not heartbeat.exists()
    assert sent(settings) == []


def test_what_became_due_while_no_scheduler_ran_is_sent_once(
    start: Start, heartbeat: Path, settings: Settings
) -> None:
    with start() as scheduler:
        scheduler.until(heartbeat.exists, "the first beat")
        scheduler.end()
    with shelve.open(str(settings.state / "beat"), writeback=True) as kept:  # noqa: S301
        kept["entries"]["files.expire"].last_run_at = datetime.now(UTC) - timedelta(hours=2)
    restarted_at = datetime.now(UTC)

    with start() as scheduler:
        until_it_beats_twice(scheduler, heartbeat)
        scheduler.end()
    [message] = sent(settings)
    assert message["headers"]["task"] == "files.expire"
    FilesExpire.model_validate(json.loads(base64.b64decode(message["body"]))[1]["job"])
    with shelve.open(str(settings.state / "beat"), flag="r") as kept:  # noqa: S301
        assert kept["entries"]["files.expire"].last_run_at >= restarted_at


def test_a_broker_that_is_down_ends_the_scheduler_with_its_setting(settings: Settings) -> None:
    nobody = "redis://127.0.0.1:1/0"
    answer = run(*COMMAND, env=environment(settings.model_copy(update={"broker_url": nobody})))
    assert answer.returncode == 2
    [line] = [line for line in answer.stderr.splitlines() if line.startswith("penstock: ")]
    assert f"cannot reach the broker Redis at {nobody}" in line
    assert "check PENSTOCK_BROKER_URL" in line
