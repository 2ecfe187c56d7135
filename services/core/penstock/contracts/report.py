"""The job of the report queue."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

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

    @field_validator("formats", "columns")
    @classmethod
    def _stand_once(cls, names: list[str] | None) -> list[str] | None:
        if names and len(set(names)) < len(names):
            raise ValueError("the same stands twice")
        return names

    @field_validator("columns")
    @classmethod
    def _are_columns(cls, columns: list[str] | None, info: ValidationInfo) -> list[str] | None:
        # Not there when it was wrong itself, which is then all there is to say.
        if dataset := info.data.get("dataset"):
            for column in columns or ():
                if column not in datasets.COLUMNS[dataset]:
                    raise ValueError(datasets.no_such_column(dataset, column))
        return columns

    @field_validator("filters")
    @classmethod
    def _are_filters(cls, filters: list[str], info: ValidationInfo) -> list[str]:
        if dataset := info.data.get("dataset"):
            for text in filters:
                datasets.parse_filter(dataset, text)
        return filters


class ReportExported(Contract):
    """How many rows each file has, beside its header, and the files in the order asked for."""

    rows: int
    files: list[StoredFile]
