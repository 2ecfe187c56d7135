"""RQ, as it comes: a process is forked for each job."""

import os

from bench.queue import jobs
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis.from_url(os.environ["BENCH_BROKER"]))


def send(kind: str, token: str) -> None:
    """Queue a job."""
    queue.enqueue(jobs.run, kind, token)
