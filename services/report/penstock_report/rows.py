"""The rows of a data set, streamed from one snapshot of the database."""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, Table, func, literal, select

from penstock.database import Base, Database
from penstock.datasets import Filter

Rows = Sequence[Row[Any]]

# Rows that are in memory at a time.
BATCH = 1000

COMPARE: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@contextmanager
def stream(
    database: Database, dataset: str, columns: Sequence[str], filters: Sequence[Filter]
) -> Iterator[tuple[int, Iterator[Rows]]]:
    """Yield how many rows pass every filter, and these rows in batches, ordered by id.

    Both are of the same moment, whatever is written meanwhile.
    """
    table = Base.metadata.tables[dataset]
    conditions = [_condition(table, each) for each in filters]
    rows = select(*(table.c[name] for name in columns)).where(*conditions).order_by(table.c.id)
    count = select(func.count()).select_from(table).where(*conditions)
    with database.engine.connect() as connection:
        _begin_snapshot(connection)
        counted = connection.execute(count).scalar_one()
        # With yield_per PostgreSQL keeps the rows behind a cursor of its own; SQLite always does.
        result = connection.execute(rows, execution_options={"yield_per": BATCH})
        yield counted, result.partitions()


def _condition(table: Table, each: Filter) -> ColumnElement[bool]:
    value = each.value
    # A number may be larger than any in the column; as the column's own type it would be refused.
    wanted = literal(value, BigInteger) if isinstance(value, int) else value
    return COMPARE[each.operator](table.c[each.column], wanted)


def _begin_snapshot(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    else:
        # Python's driver begins a transaction before it writes, not before it reads.
        connection.exec_driver_sql("BEGIN")
