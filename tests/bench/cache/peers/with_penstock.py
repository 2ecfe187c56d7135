"""Any Flask app with penstock.cache."""

import os
from time import sleep

from bench.cache.peers.stampede import LIFETIME, computed
from flask import Flask

from penstock.cache import Cache, everyone

app = Flask(__name__)
cache = Cache()
cache.init_app(
    app,
    {"CACHE_TYPE": "TieredCache", "CACHE_REDIS_URL": os.environ["BENCH_REDIS"]},
    guard=everyone,
)


@app.get("/slow")
@cache.cached(timeout=LIFETIME, stale=60)
def slow() -> str:
    """Answer what takes long."""
    return computed(sleep)
