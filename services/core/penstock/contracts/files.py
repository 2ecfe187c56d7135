"""Files that a message names: the broker carries a key, another place keeps the bytes."""

from typing import Annotated

from pydantic import Field

from penstock.contracts.base import Contract, ShortLine


class StoredFile(Contract):
    """A file that is kept; `key` is its place, see `penstock.storage`, and `size` its bytes."""

    key: Annotated[str, Field(pattern=r"^[0-9a-z][0-9a-z-]*/[^/\\\x00-\x1f]{1,200}$")]
    name: ShortLine
    content_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+$", max_length=100)]
    size: Annotated[int, Field(ge=0)]


class FilesExpire(Contract):
    """Remove the uploads and outcomes that are older than the setting files_ttl."""


class FilesExpired(Contract):
    """How much was removed."""

    folders: int
