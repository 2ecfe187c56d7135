"""Cached reads, with Flask-Caching and the back end that the setting `cache` names.

What is kept is the finished JSON text, never a pickled object. The cache may be the cause of a
slower answer but never of an error: whatever a back end raises counts as a miss.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec
from uuid import uuid4

import structlog
from cachelib.serializers import JSONSerializer
from flask import Blueprint, Flask, Response, current_app, request
from flask_caching import Cache
from redis.backoff import NoBackoff
from redis.retry import Retry

from penstock.settings import Settings

logger = structlog.get_logger(__name__)
cache = Cache()
blueprint = Blueprint("cache", __name__, url_prefix="/api/cache")

View = ParamSpec("View")


def init_app(app: Flask, settings: Settings) -> None:
    """Set up the back end of the cache."""
    configs: dict[str, dict[str, Any]] = {
        "redis": {
            "CACHE_TYPE": "RedisCache",
            "CACHE_SERIALIZER": JSONSerializer,
            "CACHE_REDIS_URL": settings.redis("cache"),
            # redis-py would try ten times, for seconds, while a reader waits.
            "CACHE_OPTIONS": {
                "retry": Retry(NoBackoff(), 0),
                "socket_connect_timeout": 0.2,
                "socket_timeout": 0.5,
            },
        },
        "simple": {"CACHE_TYPE": "SimpleCache", "CACHE_SERIALIZER": JSONSerializer},
        "memcached": {
            "CACHE_TYPE": "MemcachedCache",
            "CACHE_MEMCACHED_SERVERS": settings.cache_memcached.split(","),
        },
        "filesystem": {
            "CACHE_TYPE": "FileSystemCache",
            "CACHE_SERIALIZER": JSONSerializer,
            "CACHE_DIR": str(settings.cache_folder.absolute()),
        },
        "null": {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True},
    }
    config = configs[settings.cache]
    cache.init_app(
        app,
        {**config, "CACHE_KEY_PREFIX": "penstock:", "CACHE_DEFAULT_TIMEOUT": settings.cache_ttl},
    )


def cached(key: Callable[View, str]) -> Callable[[Callable[View, Any]], Callable[View, Response]]:
    """Keep the JSON of a view under the key that `key` makes of the view's arguments.

    The answer says whether it came from the cache: `X-Cache: hit` or `miss`.
    """

    def decorate(view: Callable[View, Any]) -> Callable[View, Response]:
        @wraps(view)
        def read(*args: View.args, **kwargs: View.kwargs) -> Response:
            name = key(*args, **kwargs)
            body = fetch(name)
            outcome = "miss" if body is None else "hit"
            if body is None:
                body = current_app.json.dumps(view(*args, **kwargs))
                keep(name, body)
            return Response(body, mimetype="application/json", headers={"X-Cache": outcome})

        return read

    return decorate


def fetch(key: str) -> Any:
    """Return what is kept under `key`, or None."""
    try:
        return cache.get(key)
    except Exception as error:  # each back end raises errors of its own
        logger.warning("cache not read", key=key, error=str(error))
        return None


def keep(key: str, value: Any) -> None:
    """Keep `value`, made of what JSON knows, for the time that the setting cache_ttl gives."""
    try:
        cache.set(key, value)
    except Exception as error:
        logger.warning("cache not written", key=key, error=str(error))


def generation(group: str) -> str:
    """Return the generation of a group of entries; it goes into the key of each of them.

    `renew` begins another one, which nobody has kept anything under: all entries of the group are
    gone at once, and a slow reader that began before the change cannot bring an old one back.
    """
    name = f"generation:{group}"
    return fetch(name) or renew(group)


def renew(group: str) -> str:
    """Drop all entries of a group."""
    begun = uuid4().hex
    keep(f"generation:{group}", begun)
    return begun


@blueprint.post("/clear")
def clear() -> dict[str, str]:
    """Drop everything that is cached."""
    cache.clear()
    logger.info("cache cleared", by=request.remote_addr)
    return {"message": "the cache is empty"}
