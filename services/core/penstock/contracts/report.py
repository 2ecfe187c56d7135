"""The job of the report queue."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from penstock import datasets
from penstock.contracts.base import Contract
from penstock.contracts.files import StoredFile


class ReportExport(Contract):
    """Write a data set to files, all columns or some, all rows or those that pass every filter.

    A filter is `column operator value`, such as "status = paid" or "ordered_at >= 2026-01-01".
    """

    dataset: Literal["users", "articles", "orders"]
    formats: Annotated[list[Literal["csv", "xlsx"]], Field(min_length=1, max_length=2)] = ["csv"]
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    filters: Annotated[list[str], Field(max_length=10)] = []

    @model_validator(mode="after")
    def _fits_the_dataset(self) -> Self:
        if len(set(self.formats)) < len(self.formats):
            raise ValueError("formats: the same format stands twice")
        known = datasets.COLUMNS[self.dataset]
        for column in self.columns or ():
            if column not in known:
                raise ValueError(
                    f"columns: {self.dataset} has no column {column!r}, it has {', '.join(known)}"
                )
        if len(set(self.columns or ())) < len(self.columns or ()):
            raise ValueError("columns: the same column stands twice")
        for text in self.filters:
            datasets.parse_filter(self.dataset, text)
        return self


class ReportExported(Contract):
    """How many rows each file has, beside its header, and the files in the order asked for."""

    rows: int
    files: list[StoredFile]
