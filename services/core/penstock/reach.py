"""Whether what a process needs can be reached, asked once when it starts."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import Literal

from redis import Redis, RedisError

from penstock.settings import PREFIX, Settings, stop, without_password


def require_redis(settings: Settings, role: Literal["broker", "results"]) -> None:
    """Return when the Redis of `role` answers; otherwise end the process with exit code 2."""

    def ping() -> None:
        with Redis.from_url(settings.redis(role), socket_connect_timeout=2, socket_timeout=2) as it:
            it.ping()

    url = getattr(settings, f"{role}_url")
    _require(settings, f"the {role} Redis", f"{PREFIX}{role.upper()}_URL", url, ping, (RedisError,))


def require_database(settings: Settings) -> None:
    """Return when the database answers; otherwise end the process with exit code 2."""
    from sqlalchemy.exc import SQLAlchemyError

    from penstock.database import Database

    def ping() -> None:
        Database(settings.database()).ping()

    where = settings.database_url
    _require(
        settings, "the database", f"{PREFIX}DATABASE_URL", where, ping, (SQLAlchemyError, OSError)
    )


def _require(
    settings: Settings,
    what: str,
    setting: str,
    url: str,
    ping: Callable[[], None],
    errors: tuple[type[Exception], ...],
) -> None:
    deadline = monotonic() + settings.wait
    while True:
        try:
            return ping()
        except errors as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if monotonic() >= deadline:
            stop(f"cannot reach {what} at {without_password(url)} ({reason}): check {setting}")
        sleep(0.5)
