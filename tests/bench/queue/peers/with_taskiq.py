"""taskiq on a Redis stream, which its documentation recommends because it acknowledges."""

import os
from collections.abc import Awaitable

from bench.queue import jobs
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

url = os.environ["BENCH_BROKER"]
# Read from the beginning: what was sent before the first worker started is to be done too.
broker = RedisStreamBroker(url, consumer_id="0").with_result_backend(RedisAsyncResultBackend(url))
run = broker.task("run")(jobs.run)


def send(kind: str, token: str) -> Awaitable[object]:
    """Queue a job."""
    sent: Awaitable[object] = run.kiq(kind, token)
    return sent
