"""What Alembic runs a migration in."""

from alembic import context

from penstock.database import Base, Database

database: Database = context.config.attributes["database"]

with database.engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite cannot alter a column; Alembic then copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # Two migrations at once would both find the old schema; the second one waits here.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7365)")
        context.run_migrations()
