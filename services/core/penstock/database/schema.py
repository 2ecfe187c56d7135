"""How the schema stands to this code; asked by all that read it, and without Alembic."""

from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError

from penstock.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
# "newer" is a schema that a later version of this code has made.
State = Literal["old", "current", "newer"]
# Seconds between two looks at a schema that is waited for.
PAUSE = 0.5


def revisions() -> list[str]:
    """Return the revisions that this code knows, the oldest first.

    A migration's file begins with its number, which is its revision.
    """
    return sorted(it.name.split("_")[0] for it in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def state(database: Database) -> State:
    """Return how the schema stands to this code; raises SQLAlchemyError where nobody answers."""
    known = revisions()
    with database.engine.connect() as connection:
        found = None
        if inspect(connection).has_table("alembic_version"):
            found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found == known[-1]:
        return "current"
    return "old" if found is None or found in known else "newer"


def wait(database: Database, limit: float) -> State | None:
    """Return the state of the schema once it is not old, or None after `limit` seconds.

    It migrates nothing: that is somebody else's, who does it once for all who wait.
    """
    deadline = monotonic() + limit
    while True:
        try:
            if (found := state(database)) != "old":
                return found
        except (SQLAlchemyError, OSError):
            pass
        if monotonic() >= deadline:
            return None
        sleep(PAUSE)
