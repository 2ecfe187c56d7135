"""A broker whose disk is full: jobs are refused, workers go on, and nothing accepted is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Running, environment
from servers import Provider, RedisServer

from integration.conftest import client_of
from penstock.settings import Settings

PAYMENT = {"amount": "19.90", "currency": "EUR"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    """A broker as it is in production."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with RedisServer(folder, appendfsync="everysec") as server:
        yield server


def test_jobs_are_refused_while_the_disk_is_full_and_a_worker_goes_on_after_it(
    broker: RedisServer, settings: Settings, provider: Provider, tmp_path: Path
) -> None:
    own = settings.model_copy(update={"broker_url": f"{broker.url}/0", "payment_url": provider.url})
    client = client_of(own)
    accepted: list[str] = []

    def pay() -> int:
        answer = client.post("/api/payments", json={"order": f"o-{len(accepted)}", **PAYMENT})
        if answer.status_code == 202:
            accepted.append(answer.get_json()["task_id"])
        else:
            assert "the job was not accepted: the broker" in answer.get_json()["detail"]
        return answer.status_code

    def states() -> set[str]:
        answers = [client.get(f"/api/task-status/{job_id}") for job_id in accepted]
        return {answer.get_json()["state"] for answer in answers}

    heartbeat = tmp_path / "heartbeat"
    with Running(
        *("celery", "--app", "penstock.app", "worker", "--queues", "payment"),
        env=environment(own, heartbeat=heartbeat),
        log=tmp_path / "worker.log",
    ) as worker:
        worker.until(heartbeat.exists, "the worker is ready")
        assert pay() == 202
        worker.until(lambda: states() == {"SUCCESS"}, "the job has ended")
        broker.fill_disk()
        worker.until(lambda: pay() == 503, "jobs are refused")
        assert broker.client.info("persistence")["aof_last_write_status"] == "err"
        broker.free_disk()
        worker.until(lambda: pay() == 202, "jobs are accepted again")
        worker.until(lambda: states() == {"SUCCESS"}, "all that were accepted have ended")
    assert len(provider.requests) == len(accepted)
