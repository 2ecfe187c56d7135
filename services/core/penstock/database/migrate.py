"""Alembic, called from the code: the migrations travel with the package."""

from alembic import command
from alembic.config import Config

from penstock.database import Database
from penstock.database.schema import MIGRATIONS


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`; does nothing where it is there already."""
    command.upgrade(_config(database), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to `revision`; what only newer ones hold is lost."""
    command.downgrade(_config(database), revision)


def _config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database"] = database
    return config
