import json
import subprocess
import sys
from pathlib import Path
from time import time

import pytest
from processes import BIN, environment, run

from penstock import health


@pytest.fixture
def heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process's heartbeat would be; there is none."""
    path = tmp_path / "heartbeat"
    monkeypatch.setenv("PENSTOCK_HEARTBEAT", str(path))
    return path


def ask(*options: str) -> subprocess.CompletedProcess[str]:
    return run("penstock", "health", *options, env=environment(heartbeat=health.heartbeat_path()))


def said(*, ago: float = 0, polled: float | None = None, renewed: float | None = None) -> str:
    """Return what a worker wrote `ago` seconds before now."""
    return json.dumps({"at": time() - ago, "polled": polled, "renewed": renewed})


def test_a_process_that_beats_is_well(heartbeat: Path) -> None:
    health.beat()
    answer = ask()
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_a_process_that_never_beat_or_has_ended_is_not_well(heartbeat: Path) -> None:
    for _ in range(2):
        answer = ask()
        assert answer.returncode == 1
        assert f"{heartbeat} does not exist" in answer.stderr
        health.beat()
        health.end()
    assert not heartbeat.exists()


def test_a_process_whose_last_beat_is_long_ago_hangs(heartbeat: Path) -> None:
    heartbeat.write_text(said(ago=health.STALE + 5))
    answer = ask()
    assert answer.returncode == 1
    assert "s old: the process hangs" in answer.stderr
    health.beat()
    assert ask().returncode == 0


def test_a_worker_that_is_connected_but_asks_for_no_jobs_is_not_well(heartbeat: Path) -> None:
    heartbeat.write_text(said(polled=health.DEAF + 1, renewed=1))
    answer = ask()
    assert answer.returncode == 1
    assert "was not asked for a job" in answer.stderr


def test_without_its_broker_a_worker_is_alive_but_not_ready(heartbeat: Path) -> None:
    heartbeat.write_text(said(polled=60, renewed=60))
    assert ask().returncode == 0
    answer = ask("--ready")
    assert answer.returncode == 1
    assert "the broker has not answered" in answer.stderr


def test_a_worker_that_is_busy_asks_for_nothing_and_is_well(heartbeat: Path) -> None:
    heartbeat.write_text(said(polled=0, renewed=1))
    assert (ask().returncode, ask("--ready").returncode) == (0, 0)


def test_to_end_without_a_beat_is_no_error(heartbeat: Path) -> None:
    health.end()
    assert not heartbeat.exists()


def test_a_process_beats_several_times_before_it_would_be_taken_to_hang() -> None:
    assert health.INTERVAL * 5 < health.STALE


def test_the_probe_imports_nothing_that_takes_long(heartbeat: Path) -> None:
    health.beat()
    command = (sys.executable, "-X", "importtime", str(BIN / "penstock"), "health")
    answer = run(*command, env=environment(heartbeat=heartbeat))
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert answer.returncode == 0
    assert {"penstock.health", "click"} <= imported
    assert not imported & {"celery", "pydantic", "redis", "sqlalchemy", "structlog", "kombu"}
