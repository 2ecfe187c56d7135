"""A deterministic data set, written in bulk: the same scale gives the same rows everywhere."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, cast

import psycopg
from sqlalchemy import Connection, Table, func, insert, select

from penstock.database import Article, Database, Order, User

# Rows at scale 1.
USERS, ARTICLES, ORDERS = 1_000, 10_000, 200_000

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
GIVEN = ("Ada", "Alan", "Barbara", "Dennis", "Edsger", "Grace", "Hedy", "Joan", "Ken", "Radia")
FAMILY = ("Abel", "Brook", "Cray", "Dale", "Ember", "Field", "Grove", "Hill", "Islay", "Jura")
WORDS = ("water", "gate", "turbine", "river", "valve", "pressure", "reservoir", "flow", "head")
ITEMS = ("anchor", "bearing", "coupling", "flange", "gauge", "impeller", "seal", "sluice")
STATUSES = ("paid", "paid", "paid", "shipped", "shipped", "refunded")

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Seeded:
    """How many rows a data set has."""

    users: int
    articles: int
    orders: int


def seed(database: Database, scale: float = 1) -> Seeded | None:
    """Fill an empty database; returns None, and writes nothing, where there are users already."""
    size = Seeded(*(max(1, round(rows * scale)) for rows in (USERS, ARTICLES, ORDERS)))
    with database.engine.begin() as connection:
        if connection.scalar(select(func.count()).select_from(User)):
            return None
        _load(connection, User.__table__, _users(size))
        _load(connection, Article.__table__, _articles(size))
        _load(connection, Order.__table__, _orders(size))
    return size


def _users(size: Seeded) -> Iterator[Row]:
    pick = random.Random(1)  # noqa: S311 - made to be repeatable
    for n in range(1, size.users + 1):
        name = f"{pick.choice(GIVEN)} {pick.choice(FAMILY)}"
        email = f"{name.lower().replace(' ', '.')}.{n}@example.com"
        yield n, name, email, EPOCH + timedelta(seconds=pick.randrange(86400 * 30))


def _articles(size: Seeded) -> Iterator[Row]:
    pick = random.Random(2)  # noqa: S311
    for n in range(1, size.articles + 1):
        title = " ".join(pick.choices(WORDS, k=4)).capitalize()
        body = " ".join(pick.choices(WORDS, k=60)).capitalize() + "."
        published = EPOCH + timedelta(minutes=n)
        yield n, pick.randint(1, size.users), title, body, published


def _orders(size: Seeded) -> Iterator[Row]:
    pick = random.Random(3)  # noqa: S311
    for n in range(1, size.orders + 1):
        quantity = pick.randint(1, 9)
        amount = quantity * Decimal(pick.randint(100, 20_000)).scaleb(-2)
        ordered = EPOCH + timedelta(seconds=150 * n)
        yield (
            n,
            pick.randint(1, size.users),
            pick.choice(ITEMS),
            quantity,
            amount,
            pick.choice(("CHF", "EUR", "USD")),
            pick.choice(STATUSES),
            ordered,
        )


def _load(connection: Connection, table: Any, rows: Iterator[Row]) -> None:
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
        return
    names = table.columns.keys()
    while batch := [dict(zip(names, row, strict=True)) for row in islice(rows, 10_000)]:
        connection.execute(insert(table), batch)


def _copy(connection: Connection, table: Table, rows: Iterator[Row]) -> None:
    binders = [
        column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        for column in table.columns
    ]
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    with driver.cursor() as cursor:
        columns = ", ".join(table.columns.keys())
        with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(
                    [
                        bind(value) if bind else value
                        for bind, value in zip(binders, row, strict=True)
                    ]
                )
        # COPY does not move the sequence that gives the next row its id.
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'),"  # noqa: S608 - a model's
            f" max(id)) FROM {table.name}"
        )
