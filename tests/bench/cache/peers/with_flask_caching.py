"""Flask-Caching on Redis, with a key that holds the query."""

import os
from time import sleep
from typing import Any

from bench.cache.peers.reads import articles
from bench.cache.peers.stampede import LIFETIME, computed
from flask import Flask, request
from flask_caching import Cache

app = Flask(__name__)
cache = Cache(
    app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": os.environ["BENCH_REDIS"]}
)


@app.get("/api/articles")
@cache.cached(query_string=True)
def read() -> dict[str, Any]:
    """Answer a page of the articles."""
    return articles(request.args.get("page", 1, int), request.args.get("per_page", 20, int))


@app.get("/slow")
@cache.cached(timeout=LIFETIME)
def slow() -> str:
    """Answer what takes long."""
    return computed(sleep)
