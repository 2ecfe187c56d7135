"""What a place for files promises, and what all of them have in common.

A key is `folder/name`; an upload has a folder of its own, a job's outcomes are in one named after
the job's id. A file appears under its key whole, or not at all. Both go when they are older than
the setting files_ttl.
"""

from __future__ import annotations

import errno
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

from penstock.contracts import StoredFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# A name with a dot before it is that of a file which is not finished.
KEY = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z-]*/[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,199}")
# Bytes that are read at a time.
BLOCK = 256 * 1024
# Bytes up to which what is being written stays in memory; beyond it is a temporary file.
SPOOL = 1024 * 1024


class StorageError(OSError):
    """The place for files does not answer, or answers that it cannot; later it may."""


class StorageFullError(StorageError):
    """The place for files has no room for this one now; files go when they are old."""


@dataclass(frozen=True)
class Stat:
    """What is known of a kept file: bytes, seconds since 1970, and what changes when it does."""

    size: int
    modified: float
    version: str


class Files(ABC):
    """A place for files.

    Where it does not answer, methods raise StorageError, an OSError; for a key under which nothing
    is kept FileNotFoundError, and for one that is no key, or leads elsewhere, ValueError.
    """

    @abstractmethod
    def ping(self) -> None:
        """Return when the place can be used."""

    @abstractmethod
    def writing(self, key: str) -> AbstractContextManager[IO[bytes]]:
        """Open `key` for writing; the file appears under it whole, or not at all."""

    @abstractmethod
    def open(self, key: str) -> tuple[Stat, IO[bytes]]:
        """Return what is known of the file, and a stream of it that can seek; close that."""

    @abstractmethod
    def stat(self, key: str) -> Stat:
        """Return what is known of the file."""

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Remove every file in `folder`."""

    @abstractmethod
    def expire(self, ttl: float) -> int:
        """Remove the folders in which nothing changed for `ttl` seconds; return how many."""

    def read(self, key: str) -> bytes:
        """Return all of the file."""
        _, stream = self.open(key)
        with stream:
            return stream.read()

    @contextmanager
    def uploading(self, job_id: str) -> Iterator[str]:
        """Yield the folder for what a job works on; it goes again if the job is not accepted."""
        folder = f"{job_id}-in"
        try:
            yield folder
        except BaseException:
            # What stays because the place is away goes when it is old.
            with suppress(OSError):
                self.remove(folder)
            raise

    def describe(self, key: str, content_type: str) -> StoredFile:
        """Return what a message or a result says of the file at `key`."""
        return StoredFile(
            key=key,
            name=key.rpartition("/")[2],
            content_type=content_type,
            size=self.stat(key).size,
        )


def checked(key: str) -> str:
    """Return `key`; ValueError where it is none."""
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key")
    return key


@contextmanager
def full_told(what: str) -> Iterator[None]:
    """Raise StorageFullError where a disk is full or a quota is used up."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(f"{what} is full: {error}") from error
        raise


@contextmanager
def spooled() -> Iterator[IO[bytes]]:
    """Yield a stream for what goes elsewhere as a whole when it is finished."""
    with full_told("the folder for temporary files"), SpooledTemporaryFile(SPOOL) as stream:
        yield stream


class Reader(io.RawIOBase):
    """A kept file of `size` bytes as a stream; what is read is fetched then, and no more."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._at = 0

    def fetch(self, at: int, most: int) -> bytes:
        """Return at least one byte and at most `most`, from `at` on."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can seek."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go where the next byte is read."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(begin + offset, 0)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer` as far as one fetch does."""
        view = memoryview(buffer)
        most = min(len(view), self.size - self._at)
        if most <= 0:
            return 0
        data = self.fetch(self._at, most)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Return what there is from here on."""
        return b"".join(iter(lambda: self.read(BLOCK) or b"", b""))
