"""FastAPI with cashews on Redis."""

import os
from time import sleep
from typing import Any

from bench.cache.peers.reads import articles
from bench.cache.peers.stampede import LIFETIME, computed
from cashews import cache
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

cache.setup(os.environ["BENCH_REDIS"])
app = FastAPI()


@app.get("/api/articles")
@cache(ttl="5m", key="articles:{page}:{per_page}")
async def read(page: int = 1, per_page: int = 20) -> dict[str, Any]:
    """Answer a page of the articles."""
    return await run_in_threadpool(articles, page, per_page)


@app.get("/slow")
@cache(ttl=LIFETIME, key="slow", lock=True)
async def slow() -> str:
    """Answer what takes long; `lock` is what cashews has against a stampede."""
    return await run_in_threadpool(computed, sleep)


@app.get("/slow/early")
@cache.early(ttl=2 * LIFETIME, early_ttl=LIFETIME, key="early")
async def early() -> str:
    """Answer what takes long, computed again before it expires."""
    return await run_in_threadpool(computed, sleep)
