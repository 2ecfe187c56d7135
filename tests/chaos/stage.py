"""A stage: the servers, the ledger and the workers that one scenario has to itself."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast
from uuid import uuid4

from celery import Celery
from chaos.groups import Group, Reaper
from chaos.jobs import QUEUE, make_app
from chaos.ledger import Ledger
from chaos.servers import Server
from chaos.waiting import DeadlineError, until
from chaos.workers import Worker
from kombu.exceptions import OperationalError
from redis import RedisError

from penstock.broker import Keys
from penstock.records import Record, Records
from penstock.settings import Settings

# Seconds that a process gets to become ready, on a machine that is busy.
START_LIMIT = 60.0
# Seconds within which the job of a lost worker must have begun again.
RECOVERY = 20.0


class Stage:
    """`figures` are what was measured, `breaches` what did not hold, `accepted` the jobs' ids."""

    def __init__(self, folder: Path, pool: str, reaper: Reaper) -> None:
        self.folder = folder
        self.pool = pool
        self.figures: dict[str, Any] = {}
        self.breaches: list[str] = []
        self.accepted: list[str] = []
        self.workers: list[Worker] = []
        self._reaper = reaper
        self._groups: list[Group] = []
        self._environment: dict[str, str] = {}

    # Processes

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.broker = Server("broker", self.folder, self.spawn)
        self.results = Server("results", self.folder, self.spawn)
        self.settings = Settings(broker_url=self.broker.url, results_url=self.results.url)
        written = self.folder / "ledger.jsonl"
        self.ledger = Ledger(written)
        self.spawn([sys.executable, "-m", "chaos.ledger", str(written)], "ledger")
        port = written.with_suffix(".port")
        until(port.exists, "the ledger answers", START_LIMIT)
        self._environment = {
            "PENSTOCK_BROKER_URL": self.broker.url,
            "PENSTOCK_RESULTS_URL": self.results.url,
            # What the project's own retries wait, as when the broker does not answer a guard.
            "PENSTOCK_RETRY_SCALE": "0.05",
            "CHAOS_LEDGER": port.read_text(),
        }
        return self

    def __exit__(self, *_: object) -> None:
        for group in self._groups:
            if group.running:
                group.kill()

    def spawn(
        self, command: list[str], name: str, environment: Mapping[str, str] | None = None
    ) -> Group:
        """Start a process that ends with this stage."""
        paths = ":".join(str(Path(path).absolute()) for path in sys.path)
        variables = {"PYTHONPATH": paths, **self._environment, **(environment or {})}
        group = Group(self._reaper, command, self.folder / f"{name}.log", variables)
        self._groups.append(group)
        return group

    def work(self, *names: str, **options: Any) -> list[Worker]:
        """Start workers of these names and return them when all are ready; see `Worker`."""
        options = {"pool": self.pool, **options}
        workers = [Worker(name, self.folder, self.spawn, **options) for name in names]
        self.workers += workers
        self.until_ready(workers)
        return workers

    def until_ready(self, workers: list[Worker]) -> None:
        """Return when all of these take jobs."""
        until(lambda: all(worker.ready for worker in workers), "the workers are ready", START_LIMIT)

    # Jobs

    @cached_property
    def app(self) -> Celery:
        """The app as a client has it."""
        return make_app(self.settings)

    @cached_property
    def records(self) -> Records:
        """The job records."""
        return Records.connect(self.settings)

    def publish(self, job: str, arguments: dict[str, Any] | None = None, **options: Any) -> str:
        """Put a job on the queue and return its id; raises OperationalError when not accepted."""
        job_id = str(uuid4())
        self.app.send_task(job, kwargs=arguments, task_id=job_id, retry=False, **options)
        self.accepted.append(job_id)
        self.records.open(job_id, job, QUEUE)
        return job_id

    def try_to_publish(self, job: str, arguments: dict[str, Any]) -> str | None:
        """The same, but return None when the broker does not accept the job."""
        with suppress(OperationalError):
            return self.publish(job, arguments)
        return None

    def record(self, job_id: str) -> Record | None:
        """Return the job's record; None where there is none, or where the results are away."""
        with suppress(RedisError):
            return self.records.read(job_id)
        return None

    def not_ended(self, jobs: Iterable[str]) -> list[str]:
        """Return those of the jobs that are in no terminal state."""
        records = {job_id: self.record(job_id) for job_id in jobs}
        return [job_id for job_id, it in records.items() if it is None or not it.state.final]

    def until_ended(self, limit: float) -> None:
        """Return when every accepted job is in a terminal state, or after `limit` seconds."""
        left = list(self.accepted)

        def ended() -> bool:
            left[:] = self.not_ended(left)
            return not left

        with suppress(DeadlineError):
            until(ended, "every job ends", limit, poll=0.25)

    def letters(self) -> list[dict[str, str]]:
        """Return the dead letters, the oldest first."""
        client, keys = self.broker.client, Keys()
        ids = [it.decode() for it in cast("list[bytes]", client.zrange(keys.letters(), 0, -1))]
        letters = [cast("dict[bytes, bytes]", client.hgetall(keys.letter(it))) for it in ids]
        return [
            {name.decode(): value.decode(errors="replace") for name, value in letter.items()}
            for letter in letters
        ]

    # Judging

    def must(self, holds: object, breach: str) -> None:
        """Note a breach unless this holds."""
        if not holds:
            self.breaches.append(breach)

    def judge(self) -> None:
        """Judge what must hold after every scenario: nothing lost, nothing doubled, no deserter."""
        self._judge_jobs()
        self._judge_broker()
        for worker in self.workers:
            if worker.group.deserted:
                self.breaches.append(f"{worker.name} ended by itself: {worker.group.last_words()}")

    def _judge_jobs(self) -> None:
        records = {job_id: self.record(job_id) for job_id in self.accepted}
        effects = self.ledger.count("effect")
        open_jobs = [job_id for job_id, it in records.items() if it is None or not it.state.final]
        succeeded = [job_id for job_id, it in records.items() if it and it.state == "SUCCESS"]
        unpaid = [job_id for job_id in succeeded if not effects[job_id]]
        doubled = [job_id for job_id, times in effects.items() if times > 1]
        dead = Counter(str(it.reason) for it in records.values() if it and it.state == "DEAD")
        self.figures["jobs"] = len(self.accepted)
        self.figures["lost"] = len(open_jobs) + len(unpaid)
        self.figures["doubled"] = len(doubled)
        if dead:
            self.figures["dead"] = dict(dead)
        self.must(not open_jobs, f"{len(open_jobs)} jobs have no terminal state: {open_jobs[:3]}")
        self.must(not unpaid, f"{len(unpaid)} jobs succeeded without their effect: {unpaid[:3]}")
        self.must(not doubled, f"{len(doubled)} jobs had their effect twice: {doubled[:3]}")

    def _judge_broker(self) -> None:
        """Judge that the broker has nothing left of jobs that have ended."""
        with suppress(DeadlineError):
            until(lambda: not any(self._left().values()), "the broker is empty", 10)
        left = self._left()
        self.must(not any(left.values()), f"the broker still has {left}")

    def _left(self) -> dict[str, int]:
        client, keys = self.broker.client, Keys()
        holdings = cast("list[bytes]", client.zrange(keys.leases, 0, -1))
        return {
            "held": sum(client.llen(holding.decode()) for holding in holdings),
            "waiting": client.llen(QUEUE),
            "delayed": client.zcard(keys.delayed(QUEUE)),
            "notes": client.llen(keys.outbox),
        }
