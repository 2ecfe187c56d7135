"""The web tier's user in the cache server may do all that the cache does, and no more."""

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError
from servers import RedisServer

from integration.test_cache_views import App
from penstock.cache.redis_store import RedisStore
from penstock_dev.redis_users import ROLES


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    """The server's address as the user web."""
    # A Redis before 7.2 does not know that one as a command.
    rules = [rule for rule in " ".join(ROLES["cache"]["web"]()).split() if rule != "+quit"]
    redis_server.client.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "web", "on", ">secret", "resetchannels", "-@all", *rules
    )
    return f"redis://web:secret@127.0.0.1:{redis_server.port}/0"


def test_it_may_do_all_that_the_cache_does(url: str, redis_server: RedisServer) -> None:
    app = App(CACHE_TYPE="TieredCache", CACHE_REDIS_URL=url, CACHE_KEY_PREFIX="penstock:")
    app.view("/a", lambda: "text", tags=["a"], vary=["Accept"], stale=60)
    assert app.asked("/a", "/a") == ["miss", "hit"]
    with app.flask.app_context():
        assert app.cache.set("key", 1, tags=["a"])
        assert app.cache.get("key") == 1
        assert app.cache.set("other", 1, timeout=0)
        assert app.cache.add("third", 1)
        assert app.cache.drop_tags("a")
        assert app.cache.get("key") is None
        assert app.cache.drop_prefix("oth")
        assert app.cache.get("other") is None
        assert app.cache.clear()
        assert app.cache.report()["of"] == "all processes"
    store = app.cache.cache_of(app.flask).store
    assert isinstance(store, RedisStore)
    assert store.answers
    denied = [
        entry
        for entry in redis_server.client.acl_log()
        # CLIENT SETINFO, which a Redis before 7.2 does not know and does without.
        if "web" in str(entry.get("username")) and "client" not in str(entry.get("object"))
    ]
    assert denied == []


@pytest.mark.parametrize(
    "command", ["FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "GET other", "PUBLISH other x"]
)
def test_it_may_do_nothing_else(url: str, command: str) -> None:
    with pytest.raises(NoPermissionError):
        Redis.from_url(url).execute_command(*command.split())  # type: ignore[no-untyped-call]
