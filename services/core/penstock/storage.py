"""The folder that the web tier and the workers share: uploads on their way in, outcomes out.

A key is `folder/name`; an upload has a folder of its own, a job's outcomes are in one named after
the job's id. Both go when they are older than the setting files_ttl.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import time
from typing import IO

from penstock.contracts import StoredFile


class Files:
    """The shared folder at `root`, which is made when something is first written to it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def path(self, key: str) -> Path:
        """Return where `key` is kept; ValueError where it would lead out of the folder."""
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"{key!r} is not a key")
        return path

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """Open `key` for writing; the file appears under it whole, or not at all."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as stream:
            try:
                yield stream
                stream.flush()
                Path(stream.name).chmod(0o644)
                Path(stream.name).replace(path)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise

    @contextmanager
    def uploading(self, job_id: str) -> Iterator[str]:
        """Yield the folder for what a job works on; it goes again if the job is not accepted."""
        folder = f"{job_id}-in"
        try:
            yield folder
        except BaseException:
            shutil.rmtree(self.path(folder), ignore_errors=True)
            raise

    def describe(self, key: str, content_type: str) -> StoredFile:
        """Return what a message or a result says of the file at `key`."""
        return StoredFile(
            key=key,
            name=key.rpartition("/")[2],
            content_type=content_type,
            size=self.path(key).stat().st_size,
        )

    def expire(self, ttl: float) -> int:
        """Remove the folders in which nothing changed for `ttl` seconds; return how many."""
        removed = 0
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.is_dir() and time() - folder.stat().st_mtime > ttl:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        return removed
