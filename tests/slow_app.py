"""An app whose views take half a second, and which counts how often they ran.

A server of WSGI runs `slow_app:app`, one of ASGI `slow_app:asgi`; both read the setting REDIS.
"""

import os
import time
from typing import Any

from flask import Flask
from redis import Redis

from penstock.cache import Cache, everyone

COMPUTATION = 0.5

runs = Redis.from_url(os.environ["REDIS"] + "/1")
app = Flask(__name__)
cache = Cache()
cache.init_app(
    app,
    {
        "CACHE_TYPE": "TieredCache",
        "CACHE_REDIS_URL": os.environ["REDIS"] + "/0",
        "CACHE_KEY_PREFIX": "test:",
        # Sixteen threads on a busy machine may keep an answer waiting.
        "CACHE_BUDGET": 5,
    },
    guard=everyone,
)
asgi = cache.asgi(app, threads=32)


@app.get("/slow/<name>")
@cache.cached(timeout=1.5, stale=60, tags=["slow"])
def slow(name: str) -> dict[str, Any]:
    """Answer with how often this was computed, and by which process."""
    number = runs.incr(f"runs:{name}")
    time.sleep(COMPUTATION)
    return {"number": number, "process": os.getpid()}


@app.get("/memo/<name>")
def memo(name: str) -> dict[str, Any]:
    """Answer with a number that is memoized."""
    return {"number": number_of(name)}


@cache.memoize(60)
def number_of(name: str) -> Any:
    """Return how often this was computed."""
    number = runs.incr(f"runs:{name}")
    time.sleep(COMPUTATION)
    return number


@app.post("/drop")
def drop() -> str:
    """Drop what `slow` has answered."""
    cache.drop_tags("slow")
    return ""
