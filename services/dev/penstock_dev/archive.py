"""Backup and restore: all that the containers keep, as one file.

The file is a tar archive with a manifest first, and behind its end, where tar does not look, the
digest of all that comes before. So one look over the file tells whether it is whole, before a
restore touches anything.

Nothing is stopped for a backup. What is taken first is what the rest belongs to: a job that waits
in the broker finds its record, its files and its rows, which are taken after it. Redis gives a
snapshot of one moment (RDB), which goes back as the base of a new append-only file. Files that are
kept elsewhere than on the volume are not in it.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from penstock.settings import without_password
from penstock_dev import containers, secret_files

FORMAT = 1
DIGEST = sha256().digest_size * 2
CHUNK = 1 << 20
MANIFEST = "manifest.json"
FILES = "/var/lib/penstock/files"
# A file that went away while it was read is no fault: jobs go on meanwhile.
PACK = f"tar -C {FILES} -cf - . ; test $? -le 1"
UNPACK = f"cd {FILES} && find . -mindepth 1 -delete && tar -xf -"
# Through a file, since what redis-cli writes to a pipe ends with a mark that is no part of it.
SNAPSHOT = """
export REDISCLI_AUTH=$(cat /run/secrets/redis_operator)
redis-cli --user operator --rdb /data/backup.rdb >&2 && cat /data/backup.rdb
failed=$? ; rm -f /data/backup.rdb ; exit $failed
"""
# Redis with an append-only file reads that alone, and an RDB file may be the base of one.
LOAD = """
cd /data && rm -rf appendonlydir && mkdir appendonlydir && cd appendonlydir &&
cat > appendonly.aof.1.base.rdb &&
echo 'file appendonly.aof.1.base.rdb seq 1 type b' > appendonly.aof.manifest
"""
EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public;"

Say = Callable[[str], object]


class ArchiveError(Exception):
    """A file is no archive that can be restored here; nothing was changed."""


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself; `version` is Penstock's, when it was made."""

    format: int
    version: str
    created: str


def back_up(folder: Path, say: Say) -> Path:
    """Write all that the running containers keep to a new file in `folder`, and return it.

    Only its owner may read it, for it holds the secrets. Raises ContainersError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"penstock-{now:%Y%m%dT%H%M%SZ}.tar"
    manifest = Manifest(FORMAT, version("penstock"), now.isoformat(timespec="seconds"))
    partial = path.with_suffix(".partial")
    with TemporaryDirectory(dir=folder) as scratch, _private(partial) as stream:
        parts = _collect(Path(scratch), say)
        with tarfile.open(fileobj=stream, mode="w") as archive:
            _add_text(archive, MANIFEST, json.dumps(manifest.__dict__))
            for part in parts:
                archive.add(part, part.name)
        stream.seek(0)
        stream.write(_digest_of(stream).encode())
    partial.rename(path)
    return path


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as stream:
            yield stream
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _collect(scratch: Path, say: Say) -> list[Path]:
    """Write each part to a file of its own, in the order that the module's text gives."""
    parts = []
    for role in ("broker", "results"):
        say(f"the {role}")
        parts.append(scratch / f"{role}.rdb")
        with parts[-1].open("wb") as stream:
            containers.compose("exec", "-T", role, "sh", "-c", SNAPSHOT, stdout=stream)
    place = containers.variables().get("PENSTOCK_FILES") or FILES
    if place == FILES:
        say("the files")
        parts.append(scratch / "files.tar")
        with parts[-1].open("wb") as stream:
            containers.compose("exec", "-T", "web", "sh", "-c", PACK, stdout=stream)
    else:
        say(f"not the files, which are kept at {without_password(place)}: see docs/files.md")
    say("the database")
    parts.append(scratch / "database.dump")
    dump = ("pg_dump", "--username=penstock", "--format=custom", "penstock")
    with parts[-1].open("wb") as stream:
        containers.compose("exec", "-T", "postgres", *dump, stdout=stream)
    say("the secrets")
    parts.append(scratch / "secrets.tar")
    with tarfile.open(parts[-1], "w") as secrets:
        for path in sorted(containers.secrets_folder().iterdir()):
            secrets.add(path, path.name)
    return parts


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    entry.mode = 0o600
    archive.addfile(entry, io.BytesIO(text.encode()))


def _digest_of(stream: IO[bytes], size: int = -1) -> str:
    """Return the digest of the next `size` bytes, or of all there are."""
    digest = sha256()
    while chunk := stream.read(CHUNK if size < 0 else min(CHUNK, size)):
        digest.update(chunk)
        size -= len(chunk) if size >= 0 else 0
    return digest.hexdigest()


def verify(path: Path) -> Manifest:
    """Return what a whole archive says of itself; raises ArchiveError."""
    try:
        size = path.stat().st_size - DIGEST
        with path.open("rb") as stream:
            said = _digest_of(stream, max(size, 0))
            if size < 0 or stream.read() != said.encode():
                raise ArchiveError(
                    f"{path} is damaged or was cut off: its content does not match its digest"
                )
        with tarfile.open(path) as archive:
            manifest = Manifest(**json.loads(_member(archive, MANIFEST).read()))
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from None
    except (tarfile.TarError, KeyError, TypeError, ValueError):
        raise ArchiveError(f"{path} is no backup of Penstock") from None
    if manifest.format != FORMAT or _parsed(manifest.version) > _parsed(version("penstock")):
        raise ArchiveError(
            f"{path} was made by Penstock {manifest.version}, which is newer than this one"
            f" ({version('penstock')}): restore it with that version"
        )
    return manifest


def _parsed(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream


def restore(path: Path, say: Say) -> Manifest:
    """Put everything back as an archive has it, and start; what is there now is gone after it.

    Raises ArchiveError before anything is touched, and ContainersError.
    """
    manifest = verify(path)
    containers.compose("down", "--remove-orphans")
    with tarfile.open(path) as archive, TemporaryDirectory() as scratch:
        archive.extractall(scratch, filter="data")
        parts = Path(scratch)
        say("the secrets")
        _restore_secrets(parts / "secrets.tar")
        for role in ("broker", "results"):
            say(f"the {role}")
            _write_volume(role, LOAD, parts / f"{role}.rdb")
        if (parts / "files.tar").exists():
            say("the files")
            _write_volume("web", UNPACK, parts / "files.tar")
        else:
            say("not the files, which were kept elsewhere: see docs/files.md")
        say("the database")
        _restore_database(parts / "database.dump")
    say("starting")
    containers.compose("up", "--detach", "--wait")
    return manifest


def _restore_secrets(part: Path) -> None:
    folder = containers.secrets_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tarfile.open(part) as secrets:
        for entry in secrets.getmembers():
            (folder / entry.name).unlink(missing_ok=True)
        secrets.extractall(folder, filter="data")
    # The rights of users in Redis are this version's.
    secret_files.write(folder)


def _write_volume(service: str, script: str, part: Path) -> None:
    """Write to a service's volumes from a container like its own, while it does not run."""
    words = ("run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "sh", service, "-c", script)
    with part.open("rb") as stream:
        containers.compose(*words, stdin=stream)


def _restore_database(part: Path) -> None:
    containers.compose("up", "--detach", "--wait", "postgres")
    containers.tell(EMPTY, *containers.PSQL)
    # A volume that was there before has the password of then.
    containers.set_database_password(
        secret_files.read(containers.secrets_folder(), "database_password")
    )
    load = ("pg_restore", "--username=penstock", "--dbname=penstock", "--no-owner")
    with part.open("rb") as stream:
        containers.compose(
            *("exec", "-T", "postgres", *load, "--clean", "--if-exists", "--exit-on-error"),
            stdin=stream,
        )
