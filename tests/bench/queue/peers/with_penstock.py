"""Penstock: plain Celery after `penstock.install`, every guarantee on."""

import os

from bench.queue import jobs
from celery import Celery

from penstock import install
from penstock.settings import Settings

broker = os.environ["BENCH_BROKER"]
app = install(
    Celery("bench", broker=f"{broker}/0"),
    Settings(broker_url=f"{broker}/0", results_url=f"{broker}/1"),
)
run = app.task(jobs.run)


def send(kind: str, token: str) -> None:
    """Queue a job."""
    run.delay(kind, token)
