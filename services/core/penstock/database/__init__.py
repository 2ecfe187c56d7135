"""The database: PostgreSQL in containers, SQLite in the embedded run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from penstock.database.models import Article, Base, Order, User

__all__ = ["Article", "Base", "Database", "Order", "User"]


class Database:
    """An engine and its sessions. Connections are made when they are first used, so that a process
    may make one of these before it forks."""

    def __init__(self, url: str, pool_size: int = 5) -> None:
        self.engine = _engine(url, pool_size)
        self.session_factory = sessionmaker(self.engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a session whose work is committed at the end, and taken back on an error."""
        with self.session_factory.begin() as session:
            yield session

    def ping(self) -> None:
        """Return when the database answers a query; raises SQLAlchemyError otherwise."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))


def _engine(url: str, pool_size: int) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 3},
        )
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # Readers do not wait for the writer, and foreign keys hold as they do in PostgreSQL.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine
