"""Files in a Redis server, for an installation whose containers share no folder.

A file is its chunks, under a token of its own, and an entry that names the token. The entry is
written last, in one step, so a file is there whole or not at all, and a second writing puts another
token in its place. All of it has a time to live, for which the setting files_ttl stands.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import cache
from io import SEEK_END
from time import time
from typing import IO, TYPE_CHECKING, Self, cast
from uuid import uuid4

from redis import Redis, RedisError
from redis.backoff import ExponentialBackoff
from redis.exceptions import OutOfMemoryError
from redis.retry import Retry

from penstock.storage.files import (
    Files,
    Reader,
    Stat,
    StorageError,
    StorageFullError,
    checked,
    spooled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.settings import Settings

# Bytes. Redis's allocator has a size of 512 KiB and the next is 640: a chunk fits with its header.
CHUNK = 512 * 1024 - 64
# Seconds after which chunks go that no entry names: those of a writer that was killed.
UNNAMED_TTL = 3600
# Seconds for which the chunks of a file that was written again stay for those who read them.
REPLACED_TTL = 300

# KEYS: entry, folder, chunks. ARGV: ttl in seconds, name, token, size, time, ttl of what was
# replaced. Returns 0 where a chunk is gone.
NAME = f"""
for i = 3, #KEYS do
  if redis.call('EXPIRE', KEYS[i], ARGV[1]) == 0 then return 0 end
end
local old = redis.call('HMGET', KEYS[1], 'token', 'size')
redis.call('HSET', KEYS[1], 'token', ARGV[3], 'size', ARGV[4], 'modified', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[1])
if old[1] and old[1] ~= ARGV[3] then
  for n = 0, math.ceil(tonumber(old[2]) / {CHUNK}) - 1 do
    redis.call('EXPIRE', 'penstock:chunk:' .. old[1] .. ':' .. n, ARGV[6])
  end
end
return 1
"""


class Chunks(Files):
    """The files in a Redis server; each is kept for `ttl` seconds after it was written."""

    def __init__(self, redis: Redis, ttl: int) -> None:
        self.redis = redis
        self.ttl = ttl
        self._name = redis.register_script(NAME)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Return the place that `settings` name."""
        return cls(_client(settings.redis("files")), settings.files_ttl)

    def ping(self) -> None:
        """Return when the server answers."""
        with _errors_told():
            self.redis.ping()

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """Open `key` for writing; the file appears under it whole, or not at all."""
        checked(key)
        with spooled() as stream:
            yield stream
            size = stream.seek(0, SEEK_END)
            stream.seek(0)
            token = uuid4().hex
            with _errors_told():
                self._write(token, stream)
                self._enter(key, token, size)

    def _write(self, token: str, stream: IO[bytes]) -> None:
        number = 0
        try:
            while data := stream.read(CHUNK):
                self.redis.set(f"penstock:chunk:{token}:{number}", data, ex=UNNAMED_TTL)
                number += 1
        except BaseException:
            # The room may be wanted before they go by themselves.
            with suppress(RedisError):
                self.redis.unlink(*_chunks(token, (number + 1) * CHUNK))
            raise

    def _enter(self, key: str, token: str, size: int) -> None:
        # Where there is no answer the entry may have been made, so the chunks stay as they are.
        folder, _, name = key.partition("/")
        keys = [f"penstock:file:{key}", f"penstock:files:{folder}", *_chunks(token, size)]
        if not self._name(keys, [self.ttl, name, token, size, time(), REPLACED_TTL]):
            raise StorageError(f"{key} took longer to write than its first bytes are kept")

    def open(self, key: str) -> tuple[Stat, IO[bytes]]:
        """Return what is known of the file, and a stream of it that can seek; close that."""
        found = self.stat(key)
        return found, cast("IO[bytes]", _Stream(self.redis, key, found))

    def stat(self, key: str) -> Stat:
        """Return what is known of the file."""
        with _errors_told():
            entry = self.redis.hmget(f"penstock:file:{checked(key)}", "size", "modified", "token")
        size, modified, token = cast("list[bytes | None]", entry)
        if size is None or modified is None or token is None:
            raise FileNotFoundError(f"no file is kept under {key!r}")
        return Stat(int(size), float(modified), token.decode())

    def remove(self, folder: str) -> None:
        """Remove every file in `folder`."""
        with _errors_told():
            names = cast("set[bytes]", self.redis.smembers(f"penstock:files:{folder}"))
            for name in names:
                self._remove(f"{folder}/{name.decode()}")
            self.redis.unlink(f"penstock:files:{folder}")

    def _remove(self, key: str) -> None:
        with suppress(FileNotFoundError):
            found = self.stat(key)
            self.redis.unlink(f"penstock:file:{key}", *_chunks(found.version, found.size))

    def expire(self, ttl: float) -> int:
        """Remove nothing: files go by themselves."""
        return 0


class _Stream(Reader):
    """The chunks of a file, one in memory at a time."""

    def __init__(self, redis: Redis, key: str, found: Stat) -> None:
        super().__init__(found.size)
        self._redis = redis
        self._key = key
        self._token = found.version
        self._number = -1
        self._chunk = b""

    def fetch(self, at: int, most: int) -> bytes:
        number, offset = divmod(at, CHUNK)
        if number != self._number:
            with _errors_told():
                chunk = self._redis.get(f"penstock:chunk:{self._token}:{number}")
            if chunk is None:
                raise FileNotFoundError(f"the file under {self._key!r} went while it was read")
            self._number, self._chunk = number, cast("bytes", chunk)
        return self._chunk[offset : offset + most]


def _chunks(token: str, size: int) -> list[str]:
    return [f"penstock:chunk:{token}:{number}" for number in range(-(-size // CHUNK))]


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_connect_timeout=1,
        socket_timeout=3,
        retry=Retry(ExponentialBackoff(base=0.05, cap=0.2), 2),
    )


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except OutOfMemoryError as error:
        raise StorageFullError("the files Redis is full") from error
    except RedisError as error:
        raise StorageError(f"the files Redis: {error}") from error
