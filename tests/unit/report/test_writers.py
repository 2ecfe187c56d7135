"""Files of rows, read back with other libraries than they were written with."""

import csv
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.utils.escape import unescape

from penstock_report.rows import Rows
from penstock_report.writers import CELL_TEXT, csv_writer, xlsx_writer

MOMENT = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
ORDER = (7, 3, "valve", 2, Decimal("19.90"), "EUR", "paid", MOMENT)
ORDERS = ["id", "user_id", "item", "quantity", "amount", "currency", "status", "ordered_at"]

AWKWARD = [
    "",
    " ",
    "  in the middle of spaces  ",
    'with "quotes"',
    "with, commas; and\ttabs",
    "two\nlines",
    "two\r\nlines",
    "a return\ralone",
    "=1+1",
    "=HYPERLINK(\"http://example.com\")",
    "+41 44 000 00 00",
    "-1",
    "@here",
    "{=A1}",
    "0012",
    "1e5",
    "2026-01-31",
    "TRUE",
    "http://example.com",
    "mailto:ada@example.com",
    "<r>not markup & not closed",
    "<r><t>not markup</t></r>",
    "<r></r>",
    "a & b < c > d",
    "&amp;",
    "_x0041_",
    "\x01\x1f",
    "Zürich 水 😀",
    "\ufffe\uffff",
    "x" * CELL_TEXT,
    "😀" * (CELL_TEXT // 2),
]  # fmt: skip


def rows(values: Iterable[tuple[Any, ...]]) -> Rows:
    # The writers only iterate over them.
    return cast("Rows", list(values))


def to_csv(dataset: str, columns: Sequence[str], *batches: Iterable[tuple[Any, ...]]) -> bytes:
    stream = BytesIO()
    with csv_writer(stream, dataset, columns) as write:
        for batch in batches:
            write(rows(batch))
    return stream.getvalue()


def to_xlsx(
    dataset: str, columns: Sequence[str], *batches: Iterable[tuple[Any, ...]], **options: Any
) -> bytes:
    stream = BytesIO()
    with xlsx_writer(stream, dataset, columns, **options) as write:
        for batch in batches:
            write(rows(batch))
    return stream.getvalue()


def opened(content: bytes) -> Workbook:
    return load_workbook(BytesIO(content))


def values(content: bytes, sheet: str) -> list[tuple[Any, ...]]:
    return list(opened(content)[sheet].iter_rows(values_only=True))


def test_csv_has_a_header_and_ends_every_line_as_the_rfc_says() -> None:
    assert to_csv("orders", ORDERS, [ORDER]) == (
        b"id,user_id,item,quantity,amount,currency,status,ordered_at\r\n"
        b"7,3,valve,2,19.90,EUR,paid,2026-01-31T23:59:59Z\r\n"
    )


def test_csv_without_rows_is_a_header() -> None:
    assert to_csv("users", ["id", "name"]) == b"id,name\r\n"


@pytest.mark.parametrize(
    ("amount", "written"),
    [("0.00", "0.00"), ("0E-2", "0.00"), ("1E+3", "1000"), ("-5.10", "-5.10")],
)
def test_amounts_in_csv_are_plain_decimals(amount: str, written: str) -> None:
    lines = to_csv("orders", ["id", "amount"], [(1, Decimal(amount))]).decode().splitlines()

    assert lines[1] == f"1,{written}"


def test_moments_in_csv_are_in_utc_whatever_their_zone() -> None:
    here = datetime(2026, 1, 1, 1, 30, 0, 500, tzinfo=timezone(timedelta(hours=2)))

    assert b"1,2025-12-31T23:30:00.000500Z\r\n" in to_csv("users", ["id", "joined_at"], [(1, here)])


def test_awkward_text_in_csv_is_read_back_as_it_was() -> None:
    written = [(n, awkward) for n, awkward in enumerate(AWKWARD)]

    content = to_csv("users", ["id", "name"], written).decode("utf-8")

    read = list(csv.reader(StringIO(content, newline="")))
    assert read[0] == ["id", "name"]
    assert [(int(n), name) for n, name in read[1:]] == written


def test_a_column_of_nothing_in_csv_keeps_its_rows() -> None:
    content = to_csv("users", ["name"], [("",), ("",)]).decode()

    assert list(csv.reader(StringIO(content, newline=""))) == [["name"], [""], [""]]


def test_csv_leaves_the_stream_open_for_its_owner() -> None:
    stream = BytesIO()
    with csv_writer(stream, "users", ["id"]):
        pass

    assert not stream.closed


def test_numbers_and_moments_in_xlsx_are_numbers_and_dates() -> None:
    content = to_xlsx("orders", ORDERS, [ORDER])
    sheet = opened(content)["orders"]

    assert [cell.data_type for cell in sheet[2]] == list("nnsnnssd")
    assert sheet["A2"].value == 7
    assert sheet["E2"].value == 19.9
    assert sheet["E2"].number_format == "0.00"
    assert sheet["H2"].value == MOMENT.replace(tzinfo=None)
    assert sheet["H2"].number_format == "yyyy-mm-dd hh:mm:ss"


def test_the_header_in_xlsx_is_bold_and_stays_in_sight() -> None:
    sheet = opened(to_xlsx("orders", ORDERS, [ORDER]))["orders"]

    assert [cell.value for cell in sheet[1]] == ORDERS
    assert all(cell.font.b for cell in sheet[1])
    assert not any(cell.font.b for cell in sheet[2])
    assert sheet.freeze_panes == "A2"


def test_columns_in_xlsx_are_wide_enough_for_dates() -> None:
    sheet = opened(to_xlsx("orders", ORDERS, [ORDER]))["orders"]

    assert sheet.column_dimensions["H"].width >= len("2026-01-31 23:59:59")


def test_awkward_text_in_xlsx_is_read_back_as_it_was() -> None:
    written = [(n, awkward) for n, awkward in enumerate(AWKWARD)]

    content = to_xlsx("users", ["id", "name"], written)

    cells = [row[1] for row in opened(content)["users"].iter_rows(min_row=2)]
    # openpyxl leaves the escapes of the format (ECMA-376, ST_Xstring) to its caller.
    assert [(n, unescape(str(cell.value or ""))) for n, cell in enumerate(cells)] == written
    assert {cell.data_type for cell in cells} == {"s"}


def test_nothing_in_xlsx_is_a_formula_or_a_link() -> None:
    content = to_xlsx("users", ["id", "name"], [(n, each) for n, each in enumerate(AWKWARD)])

    with ZipFile(BytesIO(content)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
        assert "xl/worksheets/_rels/sheet1.xml.rels" not in archive.namelist()
    assert b"<f>" not in sheet
    assert b"<hyperlink" not in sheet


def test_text_that_is_too_long_for_a_cell_is_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match="body has a text of 32,768 characters, and a cell"):
        to_xlsx("articles", ["id", "body"], [(1, "x" * (CELL_TEXT + 1))])


def test_a_cell_counts_characters_outside_the_basic_plane_twice() -> None:
    with pytest.raises(ValueError, match="and a cell of XLSX takes 32,767"):
        to_xlsx("articles", ["id", "body"], [(1, "😀" * (CELL_TEXT // 2 + 1))])


def test_moments_before_the_spreadsheets_calendar_are_text() -> None:
    before = datetime(1899, 5, 1, 12, tzinfo=UTC)

    assert values(to_xlsx("users", ["joined_at"], [(before,)]), "users")[1] == (
        "1899-05-01T12:00:00Z",
    )


def test_a_full_sheet_is_followed_by_another_with_a_header() -> None:
    numbers = [(n,) for n in range(1, 8)]

    content = to_xlsx("users", ["id"], numbers[:2], numbers[2:], sheet_rows=4)

    assert opened(content).sheetnames == ["users", "users 2", "users 3"]
    assert values(content, "users") == [("id",), (1,), (2,), (3,)]
    assert values(content, "users 2") == [("id",), (4,), (5,), (6,)]
    assert values(content, "users 3") == [("id",), (7,)]
    assert opened(content)["users 3"].freeze_panes == "A2"


def test_a_sheet_that_is_just_full_is_the_last() -> None:
    content = to_xlsx("users", ["id"], [(1,), (2,), (3,)], sheet_rows=4)

    assert opened(content).sheetnames == ["users"]


def test_xlsx_without_rows_is_a_header() -> None:
    assert values(to_xlsx("users", ["id", "name"]), "users") == [("id", "name")]


def test_what_xlsx_keeps_on_disk_goes_also_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail_half_way() -> None:
        with xlsx_writer(BytesIO(), "users", ["id"]) as write:
            write(rows([(1,), (2,)]))
            assert list(tmp_path.rglob("*"))
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        fail_half_way()

    assert not list(tmp_path.iterdir())
