"""Huey on Redis, as it comes."""

import os

from bench.queue import jobs
from huey import RedisHuey

app = RedisHuey("bench", url=os.environ["BENCH_BROKER"])
run = app.task()(jobs.run)


def send(kind: str, token: str) -> None:
    """Queue a job."""
    run(kind, token)
