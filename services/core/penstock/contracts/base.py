"""The parts that contracts share."""

from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Contract(BaseModel):
    """A message: unknown fields are refused, and what was validated does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_one_line(text: str) -> str:
    # In a mail header a line break begins another header (RFC 5322, section 2.2); Unicode has more
    # of them than ASCII: the categories are control, line separator and paragraph separator.
    if any(category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise ValueError("must not contain a line break or another control character")
    return text


Line = Annotated[str, AfterValidator(_is_one_line)]
ShortLine = Annotated[Line, Field(min_length=1, max_length=200)]
