"""Rows written to a file as they come, so that memory stays flat however many there are."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from io import TextIOWrapper
from tempfile import TemporaryDirectory
from typing import IO, Any

from xlsxwriter import Workbook

from penstock.datasets import AMOUNT, COLUMNS, INTEGER, MOMENT, TEXT
from penstock_report.rows import Rows

Write = Callable[[Rows], None]
Writer = Callable[[IO[bytes], str, Sequence[str]], AbstractContextManager[Write]]

# What a sheet holds, its header included, and a cell's text in UTF-16 units: "Excel specifications
# and limits", Microsoft.
SHEET_ROWS = 1_048_576
CELL_TEXT = 32_767

WIDTHS = {INTEGER: 10, AMOUNT: 12, TEXT: 30, MOMENT: 20}


@contextmanager
def csv_writer(stream: IO[bytes], dataset: str, columns: Sequence[str]) -> Iterator[Write]:
    """Yield what writes rows to `stream` as CSV (RFC 4180) in UTF-8, below a header.

    Moments are ISO 8601 in UTC, amounts plain decimals. Text is written as it is, also where it
    begins with = + - or @ and a spreadsheet would take it for a formula: a mark put before it would
    change the data for every program that reads the file. For spreadsheets there is XLSX.
    """
    text = TextIOWrapper(stream, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(columns)

    def write(rows: Rows) -> None:
        writer.writerows([_csv_value(value) for value in row] for row in rows)

    try:
        yield write
    finally:
        # The stream stays open: it is the caller's.
        text.detach()


def _csv_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return _iso(value)
    return format(value, "f") if isinstance(value, Decimal) else value


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def xlsx_writer(
    stream: IO[bytes], dataset: str, columns: Sequence[str], sheet_rows: int = SHEET_ROWS
) -> Iterator[Write]:
    """Yield what writes rows to `stream` as XLSX, on a further sheet of `sheet_rows` when one is
    full.

    Numbers are numbers (a spreadsheet keeps 15 digits of them), moments are dates in UTC, and text
    is text, so that nothing becomes a formula. Writing raises ValueError for a text that is too
    long for a cell.
    """
    with TemporaryDirectory() as folder:
        # In constant memory a sheet grows in a file in `folder`, which goes whatever happens.
        options = {"constant_memory": True, "tmpdir": folder, "use_zip64": True}
        workbook = Workbook(stream, options)
        yield _Sheets(workbook, dataset, columns, sheet_rows).write
        workbook.close()


class _Sheets:
    """The sheets of one workbook, each with a bold header that stays in sight."""

    def __init__(
        self, workbook: Workbook, dataset: str, columns: Sequence[str], sheet_rows: int
    ) -> None:
        self.workbook = workbook
        self.dataset = dataset
        self.columns = columns
        self.sheet_rows = sheet_rows
        self.header = workbook.add_format({"bold": True})
        self.amount = workbook.add_format({"num_format": "0.00"})
        self.moment = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self.plain = workbook.add_format()
        self._begin_sheet()

    def write(self, rows: Rows) -> None:
        """Write the rows below those that are there."""
        for row in rows:
            if self.next_row == self.sheet_rows:
                self._begin_sheet()
            for column, value in enumerate(row):
                self._write_cell(column, value)
            self.next_row += 1

    def _begin_sheet(self) -> None:
        number = len(self.workbook.worksheets()) + 1
        self.sheet = self.workbook.add_worksheet(
            self.dataset if number == 1 else f"{self.dataset} {number}"
        )
        self.sheet.freeze_panes(1, 0)
        for column, name in enumerate(self.columns):
            self.sheet.set_column(column, column, WIDTHS[COLUMNS[self.dataset][name]])
            self.sheet.write_string(0, column, name, self.header)
        self.next_row = 1

    def _write_cell(self, column: int, value: Any) -> None:
        if isinstance(value, str):
            self._write_text(column, value)
        elif isinstance(value, datetime):
            self._write_moment(column, value)
        elif isinstance(value, Decimal):
            self.sheet.write_number(self.next_row, column, value, self.amount)
        else:
            self.sheet.write_number(self.next_row, column, value)

    def _write_moment(self, column: int, moment: datetime) -> None:
        if moment.year > 1900:
            in_utc = moment.astimezone(UTC).replace(tzinfo=None)
            self.sheet.write_datetime(self.next_row, column, in_utc, self.moment)
        else:
            # A spreadsheet's calendar begins in 1900, and takes that for a leap year.
            self.sheet.write_string(self.next_row, column, _iso(moment))

    def _write_text(self, column: int, text: str) -> None:
        if len(text.encode("utf-16-le")) // 2 > CELL_TEXT:
            raise ValueError(
                f"{self.columns[column]} has a text of {len(text):,} characters, and a cell of "
                f"XLSX takes {CELL_TEXT:,}: leave the column out, or ask for CSV"
            )
        if text.startswith("<r>") and text.endswith("</r>"):
            # XlsxWriter would take the text for its own markup and write it without escapes.
            self.sheet.write_rich_string(self.next_row, column, text[0], self.plain, text[1:])
        else:
            self.sheet.write_string(self.next_row, column, text)


WRITERS: dict[str, Writer] = {"csv": csv_writer, "xlsx": xlsx_writer}
CONTENT_TYPES = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
