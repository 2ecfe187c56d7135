"""FastAPI with fastapi-cache2 on Redis."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import sleep
from typing import Any

from bench.cache.peers.reads import articles
from bench.cache.peers.stampede import LIFETIME, computed
from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from redis.asyncio import Redis


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    FastAPICache.init(RedisBackend(Redis.from_url(os.environ["BENCH_REDIS"])), prefix="bench")
    yield


app = FastAPI(lifespan=_lifespan)


@app.get("/api/articles")
@cache(expire=300)
def read(page: int = 1, per_page: int = 20) -> dict[str, Any]:
    """Answer a page of the articles."""
    return articles(page, per_page)


@app.get("/slow")
@cache(expire=LIFETIME)
def slow() -> str:
    """Answer what takes long."""
    return computed(sleep)
