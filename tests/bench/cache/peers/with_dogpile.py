"""Flask with dogpile.cache on Redis, and its lock there, which is for all processes."""

import os
from time import sleep

from bench.cache.peers.stampede import LIFETIME, computed
from dogpile.cache import make_region
from flask import Flask

app = Flask(__name__)
region = make_region().configure(
    "dogpile.cache.redis",
    expiration_time=LIFETIME,
    arguments={"url": os.environ["BENCH_REDIS"], "distributed_lock": True},
)


@region.cache_on_arguments()  # type: ignore[untyped-decorator]
def _slow() -> str:
    return computed(sleep)


@app.get("/slow")
def slow() -> str:
    """Answer what takes long."""
    answer: str = _slow()
    return answer
