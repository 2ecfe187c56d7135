"""Alembic, called from the code: the migrations travel with the package."""

from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from penstock.database import Database

# "newer" is a schema that a later version of this code has made.
State = Literal["old", "current", "newer"]
# Seconds between two looks at a schema that is waited for.
PAUSE = 0.5


def state(database: Database) -> State:
    """Return how the schema stands to this code; raises SQLAlchemyError where nobody answers."""
    scripts = ScriptDirectory.from_config(_config(database))
    with database.engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    if revision == scripts.get_current_head():
        return "current"
    known = {script.revision for script in scripts.walk_revisions()}
    return "old" if revision is None or revision in known else "newer"


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


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`; does nothing where it is there already."""
    command.upgrade(_config(database), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to `revision`; what only newer ones hold is lost."""
    command.downgrade(_config(database), revision)


def _config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["database"] = database
    return config
