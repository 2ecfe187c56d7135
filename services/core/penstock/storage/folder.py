"""Files in a folder that all share: on one machine, or on a volume that many may mount."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import time
from typing import IO

from penstock.storage.files import Files, Stat, StorageError, checked, full_told

WHAT = "the folder for files"


class Folder(Files):
    """The shared folder at `root`, which is made when something is first written to it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def path(self, key: str) -> Path:
        """Return where `key` is kept; ValueError where it would lead out of the folder."""
        return self._inside(checked(key))

    def _inside(self, name: str) -> Path:
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"{name!r} is not a key")
        return path

    def ping(self) -> None:
        """Return when the folder is there and can be written to."""
        with _errors_told():
            self.root.mkdir(parents=True, exist_ok=True)
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            raise StorageError(f"the user {os.geteuid()} may not write to it")

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """Open `key` for writing; the file appears under it whole, or not at all."""
        path = self.path(key)
        with _errors_told():
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = NamedTemporaryFile(dir=path.parent, prefix=".", delete=False)  # noqa: SIM115
        with stream:
            try:
                with full_told(WHAT):
                    yield stream
                with _errors_told():
                    stream.flush()
                    Path(stream.name).chmod(0o644)
                    Path(stream.name).replace(path)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise

    def open(self, key: str) -> tuple[Stat, IO[bytes]]:
        """Return what is known of the file, and a stream of it that can seek; close that."""
        with _errors_told():
            stream = self.path(key).open("rb")
            return _stat(os.fstat(stream.fileno())), stream

    def stat(self, key: str) -> Stat:
        """Return what is known of the file."""
        with _errors_told():
            return _stat(self.path(key).stat())

    def remove(self, folder: str) -> None:
        """Remove every file in `folder`."""
        shutil.rmtree(self._inside(folder), ignore_errors=True)

    def expire(self, ttl: float) -> int:
        """Remove the folders in which nothing changed for `ttl` seconds; return how many."""
        removed = 0
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.is_dir() and time() - folder.stat().st_mtime > ttl:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        return removed


def _stat(found: os.stat_result) -> Stat:
    return Stat(found.st_size, found.st_mtime, f"{found.st_mtime_ns:x}-{found.st_size:x}")


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turn what the system says into errors of this package, but that there is no such file."""
    try:
        with full_told(WHAT):
            yield
    except (FileNotFoundError, StorageError):
        raise
    except OSError as error:
        raise StorageError(f"{WHAT}: {error}") from error
