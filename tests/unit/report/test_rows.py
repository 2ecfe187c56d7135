"""Rows streamed from SQLite; PostgreSQL is in tests/integration/test_report_postgres.py."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, insert, text

from penstock.database import Database, User
from penstock.database.migrate import upgrade
from penstock.database.seed import seed
from penstock.datasets import COLUMNS, parse_filter
from penstock_report.rows import BATCH, stream


@pytest.fixture
def database(sqlite_url: str) -> Database:
    """A database of 10 users, 100 articles and 2,000 orders."""
    database = Database(sqlite_url)
    upgrade(database)
    seed(database, scale=0.01)
    return database


def read(
    database: Database, dataset: str, columns: Sequence[str], *filters: str
) -> list[tuple[object, ...]]:
    conditions = [parse_filter(dataset, each) for each in filters]
    with stream(database, dataset, columns, conditions) as (count, batches):
        rows = [tuple(row) for batch in batches for row in batch]
    assert len(rows) == count
    return rows


def test_every_row_comes_once_in_the_order_of_the_ids(database: Database) -> None:
    assert read(database, "orders", ["id"]) == [(n,) for n in range(1, 2001)]


@pytest.mark.parametrize("dataset", COLUMNS)
def test_the_columns_come_in_the_order_asked(database: Database, dataset: str) -> None:
    columns = list(COLUMNS[dataset])
    forth = read(database, dataset, columns)

    assert read(database, dataset, columns[::-1]) == [row[::-1] for row in forth]


def test_values_are_of_their_kind(database: Database) -> None:
    (row,) = read(database, "orders", ["id", "item", "amount", "ordered_at"], "id = 3")

    assert row[0] == 3
    assert isinstance(row[1], str)
    assert isinstance(row[2], Decimal)
    assert row[3] == datetime(2025, 1, 1, 0, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        (["status = paid"], "status = 'paid'"),
        (["status != paid"], "status <> 'paid'"),
        (["item <= gauge"], "item <= 'gauge'"),
        (["quantity > 5"], "quantity > 5"),
        (["quantity >= 5", "quantity < 7"], "quantity >= 5 AND quantity < 7"),
        (["amount >= 250.10"], "amount >= 25010"),
        (["amount < 1e3"], "amount < 100000"),
        (["ordered_at < 2025-01-02T01:00+01:00"], "ordered_at < '2025-01-02 00:00:00.000000'"),
        (["ordered_at >= 2025-01-03"], "ordered_at >= '2025-01-03 00:00:00.000000'"),
        (["id <= 9000000000000000000"], "1 = 1"),
        (["id < -9000000000000000000"], "1 = 0"),
        (["status = paid' OR '1' = '1"], "1 = 0"),
        (["status = refunded", "currency = CHF", "amount > 100"], "status = 'refunded' AND "
            "currency = 'CHF' AND amount > 10000"),
    ],
)  # fmt: skip
def test_filters_give_what_a_query_by_hand_gives(
    database: Database, filters: list[str], where: str
) -> None:
    with database.engine.connect() as connection:
        query = f"SELECT id FROM orders WHERE {where} ORDER BY id"  # noqa: S608 - the test's own
        by_hand = [tuple(row) for row in connection.execute(text(query))]

    assert read(database, "orders", ["id"], *filters) == by_hand


def test_what_is_written_while_the_rows_are_read_is_not_among_them(database: Database) -> None:
    with stream(database, "users", ["id"], []) as (count, batches):
        with database.engine.begin() as connection:
            connection.execute(
                insert(User).values(
                    id=11, name="Late", email="late@example.com", joined_at=datetime.now(UTC)
                )
            )
        rows = [row for batch in batches for row in batch]

    assert count == len(rows) == 10
    assert len(read(database, "users", ["id"])) == 11


def test_the_count_and_the_rows_are_of_one_moment(database: Database, sqlite_url: str) -> None:
    # Rows are removed between the two queries, as soon as the first was answered.
    writer = Database(sqlite_url)

    @event.listens_for(database.engine, "after_cursor_execute")
    def _write_meanwhile(*args: Any) -> None:
        if "count" in args[2]:
            with writer.engine.begin() as connection:
                connection.execute(text("DELETE FROM orders WHERE id > 10"))

    assert len(read(database, "orders", ["id"])) == 2000
    assert len(read(database, "orders", ["id"])) == 10


def test_rows_come_in_batches(database: Database) -> None:
    with stream(database, "orders", ["id"], []) as (_, batches):
        assert [len(batch) for batch in batches] == [BATCH, 2000 - BATCH]


def test_a_stream_that_is_given_up_leaves_the_database_free(database: Database) -> None:
    with stream(database, "orders", ["id"], []) as (_, batches):
        next(batches)

    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM orders"))
    assert read(database, "orders", ["id"]) == []
