"""The schema, its migrations and the data set, on both databases."""

import os
import subprocess
import sys
from decimal import Decimal
from threading import Thread
from time import monotonic, sleep

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, select, text

from penstock.database import Article, Base, Database, Order, User
from penstock.database.migrate import downgrade, upgrade
from penstock.database.schema import MIGRATIONS, State, revisions, state, wait
from penstock.database.seed import Seeded, seed


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def database(request: pytest.FixtureRequest) -> Database:
    return Database(request.getfixturevalue(request.param))


def test_the_migrations_make_the_tables_that_the_models_describe(database: Database) -> None:
    upgrade(database)

    inspector = inspect(database.engine)
    for table in Base.metadata.sorted_tables:
        assert {column["name"] for column in inspector.get_columns(table.name)} == set(
            table.columns.keys()
        )
        assert {tuple(index["column_names"]) for index in inspector.get_indexes(table.name)} >= {
            tuple(index.columns.keys()) for index in table.indexes
        }


def test_a_second_migration_changes_nothing_and_a_downgrade_takes_all_back(
    database: Database,
) -> None:
    upgrade(database)
    upgrade(database)
    downgrade(database, "base")

    assert set(inspect(database.engine).get_table_names()) == {"alembic_version"}


def test_a_migration_has_the_number_of_its_file_for_its_revision() -> None:
    """By that the schema's state is known without Alembic."""
    history = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    assert revisions() == [script.revision for script in history][::-1]


def _revision(database: Database, name: str) -> None:
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :name"), {"name": name})


def test_a_schema_is_old_until_it_is_migrated(database: Database) -> None:
    assert state(database) == "old"
    upgrade(database)
    assert state(database) == "current"
    downgrade(database, "base")
    assert state(database) == "old"


def test_a_revision_that_nobody_here_knows_is_of_a_newer_version(database: Database) -> None:
    upgrade(database)
    _revision(database, "9999")
    assert state(database) == "newer"


@pytest.mark.parametrize(("revision", "found"), [(None, "current"), ("9999", "newer")])
def test_who_waits_for_the_schema_goes_on_when_another_has_migrated_it(
    database: Database, revision: str | None, found: State
) -> None:
    def migrate() -> None:
        sleep(0.6)
        upgrade(database)
        if revision:
            _revision(database, revision)

    assert wait(database, 0) is None
    other = Thread(target=migrate)
    other.start()
    try:
        assert wait(database, 30) in (found, "current")
    finally:
        other.join()
    assert wait(database, 0) == found


def test_a_database_that_does_not_answer_is_waited_for() -> None:
    started = monotonic()
    nobody = Database("postgresql://penstock@127.0.0.1:1/penstock")
    assert wait(nobody, 0.6) is None
    assert monotonic() - started >= 0.6


@pytest.mark.parametrize("command", ["migrate", "wait"])
def test_an_older_version_leaves_a_newer_schema_alone(sqlite_url: str, command: str) -> None:
    """As after a rollback: what it finds there it must be able to work with."""
    database = Database(sqlite_url)
    upgrade(database)
    _revision(database, "9999")

    done = _penstock_db(command, sqlite_url)

    assert (done.returncode, done.stderr) == (0, "")
    assert "newer version" in done.stdout
    assert state(database) == "newer"


def test_who_waited_in_vain_says_for_what(sqlite_url: str) -> None:
    done = _penstock_db("wait", sqlite_url)

    assert done.returncode == 2
    assert done.stderr.startswith(f"penstock: the schema of {sqlite_url} is not up to date")
    assert done.stderr.count("\n") == 1


def _penstock_db(command: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from penstock.cli import main; main(['db', '{command}'])"],
        env={**os.environ, "PENSTOCK_DATABASE_URL": url, "PENSTOCK_WAIT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_seed_has_as_many_rows_as_the_scale_asks_for(database: Database) -> None:
    upgrade(database)

    assert seed(database, scale=0.01) == Seeded(users=10, articles=100, orders=2000)
    with database.session() as session:
        counts = [
            session.scalar(select(func.count()).select_from(m)) for m in (User, Article, Order)
        ]
    assert counts == [10, 100, 2000]


def test_a_database_with_users_is_not_seeded_again(database: Database) -> None:
    upgrade(database)
    seed(database, scale=0.001)

    assert seed(database, scale=1) is None
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1


def test_a_row_added_after_the_seed_gets_an_id_of_its_own(database: Database) -> None:
    upgrade(database)
    seed(database, scale=0.001)

    with database.session() as session:
        last = session.scalars(select(Order).order_by(Order.id.desc()).limit(1)).one()
        order = Order(
            user_id=1,
            item="seal",
            quantity=1,
            amount=Decimal("19.90"),
            currency="EUR",
            status="paid",
            ordered_at=last.ordered_at,
        )
        session.add(order)
        session.flush()
        session.refresh(order)
        assert order.id == last.id + 1
        assert order.amount == Decimal("19.90")
        assert order.ordered_at == last.ordered_at


def test_both_databases_get_the_same_rows(postgres_url: str, sqlite_url: str) -> None:
    rows = []
    for url in (postgres_url, sqlite_url):
        database = Database(url)
        upgrade(database)
        seed(database, scale=0.01)
        with database.engine.connect() as connection:
            rows.append(
                [
                    connection.execute(select(table).order_by("id")).all()
                    for table in Base.metadata.sorted_tables
                ]
            )
    assert rows[0] == rows[1]
