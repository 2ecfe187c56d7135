"""The parts that contracts share."""

from collections.abc import Mapping
from typing import Annotated, Any
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# The most characters that are shown of a job's arguments; Celery's own limit.
SHOWN = 1024


class Contract(BaseModel):
    """A message: unknown fields are refused, and what was validated does not change.

    A field with `repr=False` is between its sender and its handler: Flower and `celery inspect`
    do not show it.
    """

    # The text of an error would quote what was refused, and errors are shown.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def shown(arguments: Mapping[str, Any]) -> str:
    """Return a job's arguments as they may be shown, at most `SHOWN` characters of them."""
    text = repr(dict(arguments))
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _is_one_line(text: str) -> str:
    # In a mail header a line break begins another header (RFC 5322, section 2.2); Unicode has more
    # of them than ASCII: the categories are control, line separator and paragraph separator.
    if any(category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise ValueError("must not contain a line break or another control character")
    return text


Line = Annotated[str, AfterValidator(_is_one_line)]
ShortLine = Annotated[Line, Field(min_length=1, max_length=200)]
