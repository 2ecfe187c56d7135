"""The handlers of the report queue, with a real database, real files and real records."""

import csv
import os
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from redis import Redis
from sqlalchemy import select, text

import penstock_report.tasks  # noqa: F401 - its tasks are shared with every app
from penstock.database import Database, Order, User
from penstock.database.migrate import upgrade
from penstock.database.seed import seed
from penstock.datasets import COLUMNS
from penstock.records import Record, Records, State
from penstock.settings import Settings
from penstock.stack import make_app
from penstock.task import JobTask

JOB = "9d7f1c52-8a0e-4a86-b7f5-0f6a2f6f1c3e"


@pytest.fixture
def settings(redis_url: str, sqlite_url: str, tmp_path: Path) -> Settings:
    """Settings that name a database of 10 users, 100 articles and 2,000 orders."""
    database = Database(sqlite_url)
    upgrade(database)
    seed(database, scale=0.01)
    database.engine.dispose()
    return Settings(
        broker_url=f"{redis_url}/0",
        results_url=f"{redis_url}/1",
        database_url=sqlite_url,
        files=tmp_path / "files",
        retry_scale=0,
    )


def run(settings: Settings, name: str, job: dict[str, Any]) -> Record:
    """Run the job as a worker does and return what its record says in the end."""
    app = make_app(settings)
    # Run again under the same id, it would be a late run of a job that has ended.
    Redis.from_url(settings.results_url).flushdb()
    app.tasks[name].apply(kwargs={"job": job}, task_id=JOB)
    record = Records.connect(settings).read(JOB)
    assert record is not None
    return record


def export(settings: Settings, **job: Any) -> Record:
    return run(settings, "report.export", job)


def csv_rows(settings: Settings, dataset: str) -> list[list[str]]:
    path = Path(settings.files) / JOB / f"{dataset}.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def xlsx_rows(settings: Settings, dataset: str) -> list[tuple[Any, ...]]:
    workbook = load_workbook(Path(settings.files) / JOB / f"{dataset}.xlsx", read_only=True)
    return list(workbook[dataset].iter_rows(values_only=True))


def test_both_files_hold_the_rows_of_the_database(settings: Settings) -> None:
    record = export(settings, dataset="orders", formats=["csv", "xlsx"])

    database = Database(settings.database_url)
    with database.session() as session:
        orders = session.scalars(select(Order).order_by(Order.id)).all()
        expected = [
            tuple(getattr(order, column) for column in COLUMNS["orders"]) for order in orders
        ]
    assert record.state is State.SUCCESS
    assert record.result is not None
    assert record.result["rows"] == len(expected) == 2000

    header, *lines = csv_rows(settings, "orders")
    assert header == list(COLUMNS["orders"])
    assert [
        (int(a), int(b), c, int(d), Decimal(e), f, g, datetime.fromisoformat(h))
        for a, b, c, d, e, f, g, h in lines
    ] == expected

    header_cells, *cells = xlsx_rows(settings, "orders")
    assert list(header_cells) == list(COLUMNS["orders"])
    assert [
        (a, b, c, d, Decimal(str(e)).quantize(Decimal("0.01")), f, g, h.replace(tzinfo=UTC))
        for a, b, c, d, e, f, g, h in cells
    ] == expected


def test_the_files_are_described_in_the_order_asked(settings: Settings) -> None:
    record = export(settings, dataset="users", formats=["xlsx", "csv"])

    assert record.result is not None
    files = record.result["files"]
    assert [(made["key"], made["name"], made["content_type"]) for made in files] == [
        (
            f"{JOB}/users.xlsx",
            "users.xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
        (f"{JOB}/users.csv", "users.csv", "text/csv"),
    ]
    for made in files:
        assert (Path(settings.files) / made["key"]).stat().st_size == made["size"]


def test_only_the_columns_and_rows_that_were_asked_for_are_written(settings: Settings) -> None:
    record = export(
        settings,
        dataset="orders",
        columns=["status", "id"],
        filters=["status = refunded", "id <= 100"],
    )

    query = "SELECT status, id FROM orders WHERE status = 'refunded' AND id <= 100 ORDER BY id"
    with Database(settings.database_url).engine.connect() as connection:
        expected = [[status, str(n)] for status, n in connection.execute(text(query))]
    assert csv_rows(settings, "orders") == [["status", "id"], *expected]
    assert record.result is not None
    assert record.result["rows"] == len(expected) > 0


def test_the_progress_counts_the_rows_of_every_format(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = []

    def note(task: JobTask, done: int, total: int) -> None:
        noted.append((done, total))
        write(task, done, total)

    write = JobTask.progress
    monkeypatch.setattr(JobTask, "progress", note)
    monkeypatch.setattr("penstock.task.PROGRESS_INTERVAL", 0)

    record = export(settings, dataset="orders", formats=["csv", "xlsx"])

    assert noted == [(1000, 4000), (2000, 4000), (3000, 4000), (4000, 4000)]
    assert (record.progress, record.total) == (4000, 4000)


def test_filters_that_nothing_passes_give_files_with_a_header_alone(settings: Settings) -> None:
    record = export(settings, dataset="users", formats=["csv", "xlsx"], filters=["id = 0"])

    assert record.result is not None
    assert record.result["rows"] == 0
    assert csv_rows(settings, "users") == [list(COLUMNS["users"])]
    assert xlsx_rows(settings, "users") == [tuple(COLUMNS["users"])]


def test_a_database_that_cannot_be_reached_is_tried_again(
    settings: Settings, tmp_path: Path
) -> None:
    # SQLite cannot open a folder.
    unreachable = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}"})

    record = export(unreachable, dataset="users")

    assert record.state is State.DEAD
    assert record.attempts == 4
    assert "OperationalError" in str(record.error)
    assert not list((Path(settings.files) / JOB).iterdir())


def test_text_that_no_cell_can_hold_fails_at_once_and_leaves_no_file(settings: Settings) -> None:
    with Database(settings.database_url).engine.begin() as connection:
        connection.execute(
            text("UPDATE articles SET body = :body WHERE id = 50"), {"body": "x" * 40_000}
        )

    record = export(settings, dataset="articles", formats=["csv", "xlsx"])

    assert record.state is State.DEAD
    assert record.attempts == 1
    assert "body has a text of 40,000 characters" in str(record.error)
    assert not list((Path(settings.files) / JOB).iterdir())
    assert export(settings, dataset="articles", formats=["csv"]).state is State.SUCCESS


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({"dataset": "invoices"}, "dataset"),
        ({"dataset": "users", "formats": ["pdf"]}, "formats"),
        ({"dataset": "users", "columns": ["password"]}, "users has no column 'password'"),
        ({"dataset": "users", "filters": ["name"]}, "is not `column operator value`"),
    ],
)
def test_a_message_that_breaks_the_contract_fails_at_once(
    settings: Settings, job: dict[str, Any], reason: str
) -> None:
    record = export(settings, **job)

    assert record.state is State.DEAD
    assert record.attempts == 1
    assert reason in str(record.error)


def _peak(settings: Settings, rows: int) -> int:
    tracemalloc.start()
    export(
        settings,
        dataset="orders",
        formats=["csv", "xlsx"],
        columns=["id", "item", "ordered_at"],
        filters=[f"id <= {rows}"],
    )
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_rows(settings: Settings) -> None:
    with Database(settings.database_url).engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO orders SELECT id + 2000, user_id, item, quantity, amount, currency, "
                "status, ordered_at FROM orders"
            )
        )
    # In a process of its own, without the threads that other tests may have left in this one.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        # The first export also pays for what is imported and kept.
        _, few, many = process.map(partial(_peak, settings), [1, 1000, 4000])

    # Kept in memory, the further 3,000 rows would take several times as much.
    assert many < few + 300_000


def test_old_files_are_removed_and_counted(settings: Settings) -> None:
    export(settings, dataset="users")
    old = Path(settings.files) / "old"
    old.mkdir()
    (old / "users.csv").touch()
    os.utime(old, (0, 0))

    record = run(settings, "files.expire", {})

    assert record.state is State.SUCCESS
    assert record.result == {"folders": 1}
    assert [folder.name for folder in Path(settings.files).iterdir()] == [JOB]


def test_a_job_after_the_database_changed_sees_the_change(settings: Settings) -> None:
    assert (export(settings, dataset="users").result or {})["rows"] == 10
    with Database(settings.database_url).session() as session:
        session.add(
            User(name="Late", email="late@example.com", joined_at=datetime(2026, 1, 1, tzinfo=UTC))
        )

    assert (export(settings, dataset="users").result or {})["rows"] == 11
