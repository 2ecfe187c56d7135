"""Cached reads: what `penstock.cache` is told here, and the requests that clear it."""

from typing import Annotated, Any

import structlog
from flask import Blueprint, Flask, request
from pydantic import Field, model_validator

from penstock.cache import Cache
from penstock.contracts.base import Contract
from penstock.settings import Settings
from penstock_web.auth import Keys, operator_only
from penstock_web.problems import parse

logger = structlog.get_logger(__name__)
cache = Cache()
blueprint = Blueprint("cache", __name__, url_prefix="/api/cache")

# Seconds for which an answer that is over is served while it is computed anew, and for which it is
# served when that fails.
STALE = 60
STALE_ON_ERROR = 600
# Entries that take more bytes than this are compressed for the cache server.
COMPRESS_ABOVE = 4096
# Files in the folder, where that is the cache.
FILES = 10_000

Name = Annotated[str, Field(min_length=1, max_length=200)]


class Clearing(Contract):
    """What is to be dropped: what carries one of the tags, or begins so; without either, all."""

    tags: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = None
    prefix: Name | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Clearing":
        if self.tags and self.prefix:
            raise ValueError("give tags or a prefix, not both")
        return self


def init_app(app: Flask, settings: Settings, keys: Keys) -> None:
    """Set up the back end of the cache, and put the cache before the app."""
    types: dict[str, dict[str, Any]] = {
        "redis": {"CACHE_TYPE": "TieredCache", "CACHE_REDIS_URL": settings.redis("cache")},
        "simple": {"CACHE_TYPE": "SimpleCache"},
        "memcached": {
            "CACHE_TYPE": "MemcachedCache",
            "CACHE_MEMCACHED_SERVERS": settings.cache_memcached.split(","),
        },
        "filesystem": {
            "CACHE_TYPE": "FileSystemCache",
            "CACHE_DIR": str(settings.cache_folder.absolute()),
            "CACHE_THRESHOLD": FILES,
        },
        "null": {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True},
    }
    config = {
        **types[settings.cache],
        "CACHE_KEY_PREFIX": "penstock:",
        "CACHE_DEFAULT_TIMEOUT": settings.cache_ttl,
        "CACHE_STALE": STALE,
        "CACHE_STALE_ON_ERROR": STALE_ON_ERROR,
        "CACHE_COMPRESS_ABOVE": COMPRESS_ABOVE,
        "CACHE_LOCAL_SIZE": settings.cache_local_size,
        "CACHE_LOCAL_POLICY": settings.cache_local_policy,
    }
    cache.init_app(app, config, guard=lambda asked: keys.knows(asked.header("authorization") or ""))


@blueprint.post("/clear")
@operator_only
def clear() -> dict[str, Any]:
    """Drop what carries a tag, what begins with a prefix, or everything."""
    asked = parse(Clearing) if request.get_data(cache=True) else Clearing()
    if asked.tags:
        told = cache.drop_tags(*asked.tags)
    elif asked.prefix:
        told = cache.drop_prefix(asked.prefix)
    else:
        told = cache.clear()
    logger.info("cache cleared", tags=asked.tags, prefix=asked.prefix, by=request.remote_addr)
    if told:
        return {"message": "dropped"}
    return {"message": "dropped here; the cache server is told when it answers again"}


@blueprint.get("/stats")
def stats() -> dict[str, Any]:
    """Answer how often the cache was asked, and what came of it."""
    return cache.report()
