"""The one declaration of every queue and its jobs.

Celery's routes and limits, the HTTP validation, the Compose services and the dashboards follow
from it. To add a job, write its contract and name it here; to add a queue, see the README.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel

from penstock.backoff import Backoff
from penstock.contracts import (
    EmailSend,
    FilesExpire,
    ImageProcess,
    NotificationSend,
    PaymentProcess,
    ReportExport,
)

# What is done about an effect of which nobody knows whether it happened: have it again, at the risk
# that it happens twice, or leave the job to a person, among the dead letters.
Uncertain = Literal["retry", "dead-letter"]


@dataclass(frozen=True)
class Job:
    """A kind of work: what its message holds, how long it may run, how it is retried.

    `soft_limit` and `hard_limit` are seconds: at the first the handler gets SoftTimeLimitExceeded
    and may tidy up, at the second its process is killed. `uncertain` is for `JobTask.once`.
    """

    name: str
    contract: type[BaseModel]
    soft_limit: int
    hard_limit: int
    backoff: Backoff
    # How often the job is delivered before it counts as poison: one that never finishes.
    deliveries: int = 3
    uncertain: Uncertain = "dead-letter"
    # Seconds between two runs, for work that comes by the clock.
    every: int | None = None


@dataclass(frozen=True)
class Queue:
    """Jobs that one worker deployment does.

    `concurrency` is processes in a worker; `grace` is the seconds that a worker which was told to
    stop gets for its running jobs, and is longer than any of their hard limits.
    """

    name: str
    package: str
    jobs: tuple[Job, ...]
    concurrency: int
    grace: int
    # How many jobs may wait in it; a client that brings one more is told to come back later.
    limit: int = 100_000
    # Whether the handlers read the database, which must then answer before the worker starts.
    database: bool = False
    # Whether the handlers read or write files, the same.
    files: bool = False
    # Whether no worker need run while nothing waits: the first job then waits for one to start.
    scale_to_zero: bool = False

    def __post_init__(self) -> None:
        for job in self.jobs:
            if not job.soft_limit < job.hard_limit < self.grace:
                raise ValueError(
                    f"{job.name}: soft limit < hard limit < grace must hold, "
                    f"not {job.soft_limit} < {job.hard_limit} < {self.grace}"
                )

    @property
    def installed(self) -> bool:
        """Whether this environment has the package with the queue's handlers."""
        return find_spec(self.package) is not None


QUEUES = (
    Queue(
        name="email",
        package="penstock_email",
        files=True,
        concurrency=2,
        grace=90,
        jobs=(
            Job(
                name="email.send",
                contract=EmailSend,
                soft_limit=50,
                hard_limit=60,
                backoff=Backoff(retries=5, first=10, cap=900),
                uncertain="retry",
            ),
            Job(
                name="notification.send",
                contract=NotificationSend,
                soft_limit=50,
                hard_limit=60,
                backoff=Backoff(retries=3, first=60, jitter=(1, 1)),
                uncertain="retry",
            ),
        ),
    ),
    Queue(
        name="image",
        package="penstock_image",
        scale_to_zero=True,
        files=True,
        concurrency=2,
        grace=150,
        jobs=(
            Job(
                name="image.process",
                contract=ImageProcess,
                soft_limit=110,
                hard_limit=120,
                backoff=Backoff(retries=3, first=5, cap=60),
            ),
        ),
    ),
    Queue(
        name="report",
        package="penstock_report",
        scale_to_zero=True,
        database=True,
        files=True,
        concurrency=1,
        grace=960,
        jobs=(
            Job(
                name="report.export",
                contract=ReportExport,
                soft_limit=870,
                hard_limit=900,
                backoff=Backoff(retries=3, first=30, cap=300),
            ),
            Job(
                name="files.expire",
                contract=FilesExpire,
                soft_limit=270,
                hard_limit=300,
                backoff=Backoff(retries=0, first=1),
                every=3600,
            ),
        ),
    ),
    Queue(
        name="payment",
        package="penstock_payment",
        concurrency=2,
        grace=90,
        jobs=(
            Job(
                name="payment.process",
                contract=PaymentProcess,
                soft_limit=50,
                hard_limit=60,
                backoff=Backoff(retries=5, first=60, jitter=(0.5, 1.5)),
            ),
        ),
    ),
)

BY_QUEUE = {queue.name: queue for queue in QUEUES}
BY_JOB = {job.name: job for queue in QUEUES for job in queue.jobs}
BY_CONTRACT = {job.contract: job for job in BY_JOB.values()}
QUEUE_OF = {job.name: queue.name for queue in QUEUES for job in queue.jobs}
