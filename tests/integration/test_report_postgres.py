"""The rows of a report, streamed from a real PostgreSQL."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from openpyxl import load_workbook
from sqlalchemy import event, func, insert, select, text

from penstock.database import Database, Order, User
from penstock.database.migrate import upgrade
from penstock.database.seed import seed
from penstock.datasets import parse_filter
from penstock.settings import Settings
from penstock.stack import make_app
from penstock_report.rows import BATCH, stream
from penstock_report.tasks import export

SCALE = 0.02


@pytest.fixture
def database(postgres_url: str) -> Database:
    """A database of 20 users, 200 articles and 4,000 orders."""
    database = Database(postgres_url)
    upgrade(database)
    seed(database, SCALE)
    return database


def read(database: Database, columns: Sequence[str], *filters: str) -> list[tuple[Any, ...]]:
    conditions = [parse_filter("orders", each) for each in filters]
    with stream(database, "orders", columns, conditions) as (count, batches):
        rows = [tuple(row) for batch in batches for row in batch]
    assert len(rows) == count
    return rows


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ([], "true"),
        (["status != paid", "quantity >= 5"], "status <> 'paid' AND quantity >= 5"),
        (["amount >= 250.10", "amount < 1e3"], "amount >= 25010 AND amount < 100000"),
        (["ordered_at < 2025-01-02T01:00+01:00"], "ordered_at < '2025-01-02 00:00:00Z'"),
        (["id < 9000000000000000000"], "true"),
        (["quantity > -9000000000000000000"], "true"),
        (["amount > 9999999999999999.99"], "false"),
    ],
)
def test_filters_give_what_a_query_by_hand_gives(
    database: Database, filters: list[str], where: str
) -> None:
    with database.engine.connect() as connection:
        query = f"SELECT id FROM orders WHERE {where} ORDER BY id"  # noqa: S608 - the test's own
        by_hand = [tuple(row) for row in connection.execute(text(query))]

    assert read(database, ["id"], *filters) == by_hand


def test_what_is_written_while_the_rows_are_read_is_not_among_them(database: Database) -> None:
    with stream(database, "users", ["id"], []) as (count, batches):
        with database.engine.begin() as connection:
            connection.execute(
                insert(User).values(
                    name="Late", email="late@example.com", joined_at=datetime.now(UTC)
                )
            )
        rows = [row for batch in batches for row in batch]

    assert count == len(rows) == 20
    with database.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(User)) == 21


def test_the_count_and_the_rows_are_of_one_moment(database: Database) -> None:
    # Rows are removed between the two queries, as soon as the first was answered.
    writer = Database(database.engine.url.render_as_string(hide_password=False))

    @event.listens_for(database.engine, "after_cursor_execute")
    def _write_meanwhile(*args: Any) -> None:
        if "count" in args[2]:
            with writer.engine.begin() as connection:
                connection.execute(text("DELETE FROM orders WHERE id > 10"))

    assert len(read(database, ["id"])) == 4000
    assert len(read(database, ["id"])) == 10


def test_the_rows_stay_on_the_server_until_they_are_asked_for(database: Database) -> None:
    cursors = []

    @event.listens_for(database.engine, "after_cursor_execute")
    def _note(*args: Any) -> None:
        cursors.append(type(args[1]).__name__)

    with stream(database, "orders", ["id"], []) as (_, batches):
        assert len(next(batches)) == BATCH

    assert cursors == ["Cursor", "ServerCursor"]


def test_a_connection_lost_half_way_is_an_error_that_is_tried_again(database: Database) -> None:
    def lose_it() -> None:
        with stream(database, "orders", ["id", "item"], []) as (_, batches):
            next(batches)
            with database.engine.connect() as other:
                other.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
            list(batches)

    # Celery's types do not know the options of a task.
    with pytest.raises(cast("Any", export).autoretry_for):
        lose_it()

    # The pool finds out and connects anew.
    assert len(read(database, ["id"])) == 4000


def test_an_export_holds_what_the_database_holds(
    database: Database, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        results_url=f"{redis_url}/1", database_url=postgres_url, files=tmp_path / "files"
    )
    app = make_app(settings)
    job = {"dataset": "orders", "formats": ["csv", "xlsx"]}

    result = app.tasks["report.export"].apply(kwargs={"job": job}, task_id="job-1").get()

    with database.engine.connect() as connection:
        total = connection.scalar(select(func.sum(Order.amount)))
    with (tmp_path / "files/job-1/orders.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    workbook = load_workbook(tmp_path / "files/job-1/orders.xlsx", read_only=True)
    cells = list(workbook["orders"].iter_rows(min_row=2, values_only=True))
    assert result["rows"] == len(lines) == len(cells) == 4000
    assert sum(Decimal(line["amount"]) for line in lines) == total
    assert sum(Decimal(str(cell[4])) for cell in cells) == total
    assert lines[0]["ordered_at"] == "2025-01-01T00:02:30Z"
    assert cells[0][7] == datetime(2025, 1, 1, 0, 2, 30)
