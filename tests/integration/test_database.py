"""The schema, its migrations and the data set, on both databases."""

from decimal import Decimal

import pytest
from sqlalchemy import func, inspect, select

from penstock.database import Article, Base, Database, Order, User
from penstock.database.migrate import downgrade, upgrade
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
