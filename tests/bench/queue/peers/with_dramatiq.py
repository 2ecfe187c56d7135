"""Dramatiq on Redis, as it comes."""

import os

import dramatiq
from bench.queue import jobs
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_BROKER"]))
run = dramatiq.actor(jobs.run)


def send(kind: str, token: str) -> None:
    """Queue a job."""
    run.send(kind, token)
