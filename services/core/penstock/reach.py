"""Whether what a process needs can be reached, asked once when it starts."""

from collections.abc import Callable
from time import monotonic, sleep

from redis import Redis, RedisError

from penstock.settings import PREFIX, Role, Settings, stop, without_password


def require_redis(settings: Settings, role: Role) -> None:
    """Return when the Redis of `role` answers; otherwise end the process with exit code 2."""

    def ping() -> None:
        with Redis.from_url(settings.redis(role), socket_connect_timeout=2, socket_timeout=2) as it:
            it.ping()

    setting = f"{PREFIX}FILES" if role == "files" else f"{PREFIX}{role.upper()}_URL"
    url = settings.redis_url(role)
    _require(settings, f"the {role} Redis", setting, url, ping, (RedisError,))


def require_files(settings: Settings) -> None:
    """Return when files can be kept; otherwise end the process with exit code 2.

    A Redis server must suit the role as well; see `penstock.roles`.
    """
    from penstock import roles, storage

    if settings.files_in_redis:
        require_redis(settings, "files")
        roles.check(settings, "files")
        return

    def ping() -> None:
        storage.connect(settings).ping()

    what, where = "the files", settings.files
    _require(settings, what, f"{PREFIX}FILES", where, ping, (OSError, ImportError))


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
