"""The data sets that can be exported, and the filters on them."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import Integer, String, Text

from penstock.database import Base
from penstock.database.models import Moment, Money
from penstock.datasets import AMOUNT, COLUMNS, INTEGER, MOMENT, TEXT, Filter, parse_filter

KINDS = {Integer: INTEGER, String: TEXT, Text: TEXT, Money: AMOUNT, Moment: MOMENT}


def test_the_data_sets_are_the_tables_with_their_columns_and_kinds() -> None:
    of_the_models = {
        table.name: {column.name: KINDS[type(column.type)] for column in table.columns}
        for table in Base.metadata.tables.values()
    }

    assert of_the_models == COLUMNS
    assert [list(columns) for columns in of_the_models.values()] == [
        list(COLUMNS[name]) for name in of_the_models
    ]


def test_no_column_of_a_data_set_can_be_empty() -> None:
    # The writers of reports have no sign for it.
    assert not [
        column for table in Base.metadata.tables.values() for column in table.c if column.nullable
    ]


@pytest.mark.parametrize(
    ("text", "column", "operator", "value"),
    [
        ("status = paid", "status", "=", "paid"),
        ("status!=paid", "status", "!=", "paid"),
        ("  item =  two words \n", "item", "=", "two words"),
        ("item = a\nb", "item", "=", "a\nb"),
        ("item = ", "item", "=", ""),
        ("item = <b>", "item", "=", "<b>"),
        ("id<=7", "id", "<=", 7),
        ("id > -1", "id", ">", -1),
        ("amount >= 19.90", "amount", ">=", Decimal("19.90")),
        ("amount < 1e3", "amount", "<", Decimal(1000)),
        ("amount = 5.000", "amount", "=", Decimal(5)),
        ("ordered_at >= 2026-01-31", "ordered_at", ">=", datetime(2026, 1, 31, tzinfo=UTC)),
        (
            "ordered_at < 2026-01-31T01:30+02:00",
            "ordered_at",
            "<",
            datetime(2026, 1, 30, 23, 30, tzinfo=UTC),
        ),
    ],
)
def test_a_filter_is_read_with_a_value_of_the_columns_kind(
    text: str, column: str, operator: str, value: object
) -> None:
    parsed = parse_filter("orders", text)

    assert parsed == Filter(column, operator, value)  # type: ignore[arg-type]
    assert type(parsed.value) is type(value)


@pytest.mark.parametrize(
    "text",
    ["", "status", "status paid", "= paid", "status == paid", "status => a", "id <> 1", "a.b = 1"],
)
def test_what_is_no_condition_is_refused_with_the_operators_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"column operator value` with one of <= >= != = < >$"):
        parse_filter("orders", text)


def test_an_unknown_column_is_refused_with_the_columns_there_are() -> None:
    with pytest.raises(ValueError, match=r"users has no column 'status'; it has id, name, email"):
        parse_filter("users", "status = paid")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("id = one", "a whole number"),
        ("id = 1.5", "a whole number"),
        (f"id = {2**63}", "a whole number"),
        ("id = " + "9" * 5000, "a whole number"),
        ("item = a\0b", "text without a NUL"),
        ("amount = ten", "a decimal number"),
        ("amount = nan", "a decimal number"),
        ("amount = -inf", "a decimal number"),
        ("amount = 0.001", "a decimal number"),
        ("amount = 1e-999999", "a decimal number"),
        ("amount = 1e999999", "a decimal number"),
        ("amount = -10000000000000000", "a decimal number"),
        ("ordered_at = yesterday", "a date or time"),
        ("ordered_at = 2026-02-30", "a date or time"),
        ("ordered_at = 0001-01-01T00:00+14:00", "a date or time"),
        ("ordered_at = 9999-12-31T23:59-01:00", "a date or time"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_is_wanted(text: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^{text.split()[0]} wants {wanted}"):
        parse_filter("orders", text)
