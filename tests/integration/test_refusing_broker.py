"""A worker whose broker answers, but refuses what it is asked."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from processes import Running, environment
from redis import Redis
from servers import RedisServer

from penstock import install
from penstock.records import Records, State
from penstock.settings import Settings

TESTS = Path(__file__).parents[1]


class Worker(Running):
    """A worker of the queues `odd` and `even`, with jobs of odd_tasks.py, and its client."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        heartbeat = folder / "heartbeat"
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        command = ["celery", "--app", "integration.odd_tasks", "worker", "--queues", "odd,even"]
        super().__init__(
            *(*command, "--concurrency", "2"),
            env={**environment(settings, heartbeat=heartbeat), "PYTHONPATH": path},
            log=folder / "worker.log",
        )
        self.records = Records.connect(settings)
        self.app = install(Celery("client", set_as_current=False), settings)
        self.app.conf.update(broker_url=settings.broker_url)
        self.until(heartbeat.exists, "the worker is ready")

    def does_jobs_of(self, queue: str) -> None:
        """Return when it has done a job of the queue."""
        job = self.app.send_task("odd.end", args=["an object"], queue=queue)

        def done() -> bool:
            record = self.records.read(str(job.id))
            return record is not None and record.state == State.SUCCESS

        self.until(done, f"a job of {queue} is done")


@pytest.fixture
def worker(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> Iterator[Worker]:
    settings = Settings(broker_url=f"{redis_server.url}/0", results_url=f"{redis_url}/1")
    with Worker(tmp_path, settings) as worker:
        yield worker


def test_a_worker_outlives_a_broker_that_refuses(worker: Worker, redis_server: RedisServer) -> None:
    broker: Redis = redis_server.client
    worker.does_jobs_of("odd")

    broker.set("even", "no list")
    worker.until(lambda: "WRONGTYPE" in worker.said, "the queue is read in vain")
    worker.does_jobs_of("odd")
    broker.delete("even")
    worker.does_jobs_of("even")

    # As after a failover that the old master survived.
    broker.replicaof("127.0.0.1", "1")
    worker.until(lambda: "Trying to re-establish" in worker.said, "the worker looks for the master")
    broker.replicaof("NO", "ONE")
    worker.does_jobs_of("odd")

    # What a worker sends while it connects is refused by a full server.
    times = worker.said.count("Trying to re-establish")
    broker.config_set("maxmemory", 1)
    broker.execute_command("CLIENT", "KILL", "TYPE", "normal")  # type: ignore[no-untyped-call]
    worker.until(lambda: worker.said.count("Trying to re-establish") > times + 1, "it is refused")
    broker.config_set("maxmemory", 0)
    worker.does_jobs_of("odd")
    worker.does_jobs_of("even")
    assert worker.end() == 0
