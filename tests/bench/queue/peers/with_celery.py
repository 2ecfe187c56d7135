"""Celery as it comes, with a result back end."""

import os

from bench.queue import jobs
from celery import Celery

broker = os.environ["BENCH_BROKER"]
app = Celery("bench", broker=f"{broker}/0", backend=f"{broker}/1")
run = app.task(jobs.run)


def send(kind: str, token: str) -> None:
    """Queue a job."""
    run.delay(kind, token)
