"""The data sets that can be exported, and the small language that filters them.

Plain data, so that the web tier can judge a request without the database; a test holds it to the
models.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

Value = int | str | Decimal | datetime


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**63:
        raise ValueError
    return number


def _text(text: str) -> str:
    # PostgreSQL's text cannot hold it.
    if "\0" in text:
        raise ValueError
    return text


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError from None


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    # The models keep amounts in hundredths, in 64 bits.
    if not amount.is_finite() or abs(amount) >= 10**16 or amount != round(amount, 2):
        raise ValueError
    return amount


INTEGER: tuple[str, Callable[[str], Value]] = ("a whole number", _integer)
TEXT: tuple[str, Callable[[str], Value]] = ("text without a NUL", _text)
AMOUNT: tuple[str, Callable[[str], Value]] = ("a decimal number such as 19.90", _amount)
MOMENT: tuple[str, Callable[[str], Value]] = ("a date or time such as 2026-01-31", _moment)

COLUMNS: dict[str, dict[str, tuple[str, Callable[[str], Value]]]] = {
    "users": {"id": INTEGER, "name": TEXT, "email": TEXT, "joined_at": MOMENT},
    "articles": {
        "id": INTEGER,
        "author_id": INTEGER,
        "title": TEXT,
        "body": TEXT,
        "published_at": MOMENT,
    },
    "orders": {
        "id": INTEGER,
        "user_id": INTEGER,
        "item": TEXT,
        "quantity": INTEGER,
        "amount": AMOUNT,
        "currency": TEXT,
        "status": TEXT,
        "ordered_at": MOMENT,
    },
}

OPERATORS = ("<=", ">=", "!=", "=", "<", ">")
# What follows an operator at once is not another: `==` is refused, not taken for `=` and "=".
_FILTER = re.compile(r"\s*(\w+)\s*(" + "|".join(OPERATORS) + r")(?![<>=!])\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """A condition on one column, its value already of the column's type."""

    column: str
    operator: str
    value: Value


def no_such_column(dataset: str, column: str) -> str:
    """Return the sentence that says so, with the columns there are."""
    return f"{dataset} has no column {column!r}; it has {', '.join(COLUMNS[dataset])}"


def parse_filter(dataset: str, text: str) -> Filter:
    """Read `column operator value`; ValueError says what is wrong and what is allowed."""
    match = _FILTER.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not `column operator value` with one of {' '.join(OPERATORS)}"
        )
    column, operator, value = match.groups()
    if column not in COLUMNS[dataset]:
        raise ValueError(no_such_column(dataset, column))
    wanted, convert = COLUMNS[dataset][column]
    try:
        return Filter(column, operator, convert(value))
    except ValueError:
        raise ValueError(f"{column} wants {wanted}, not {value!r}") from None
