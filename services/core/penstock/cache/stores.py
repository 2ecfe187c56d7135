"""Where entries are kept beyond the process, in any kind of server or folder."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote
from uuid import uuid4

from cachelib import BaseCache
from cachelib.serializers import BaseSerializer

from penstock.cache import codec
from penstock.cache.entries import Entry, seal, unseal


class Away(Exception):  # noqa: N818 - what the store is
    """The store cannot be asked now, or does not take what it was given."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a store says to whoever is about to compute: whether it may, and what is there now."""

    taken: bool
    entry: Entry | None
    generations: dict[str, str]


class Store(Protocol):
    """What a back end asks of its store. Everything may raise Away."""

    def look(self, key: str) -> Entry | None:
        """Return what is under `key`, where every tag of it is still in its generation."""

    def begin(
        self, key: str, tags: tuple[str, ...], token: str, life: float, *, missing: bool = False
    ) -> Begun:
        """Take the lock of `key` and return what is there, and the tags' generations.

        `life` is for how long the generations must be remembered. With `missing` the lock is taken
        only where nothing is kept.
        """

    def generations(self, tags: tuple[str, ...], life: float) -> dict[str, str]:
        """Return the tags' generations, and remember them for `life` seconds."""

    def keep(self, lock: str, key: str, entry: Entry, token: str) -> bool:
        """Keep an entry and end the lock; False where the lock is not held by `token` any more."""

    def release(self, key: str, token: str) -> None:
        """End the lock, if it is held by `token`."""

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry, whoever computes."""

    def add(self, key: str, entry: Entry) -> bool:
        """Keep an entry where there is none; return whether it was kept."""

    def drop(self, keys: tuple[str, ...], tags: tuple[str, ...], prefix: str | None) -> None:
        """Drop what is under these keys, carries one of these tags, or begins with `prefix`."""


class CodecSerializer(BaseSerializer):
    """For the back ends of cachelib, which would use pickle."""

    def dumps(self, value: object, protocol: int = 0) -> bytes:
        """Return the value as bytes."""
        return codec.dumps(value)

    def loads(self, bvalue: bytes) -> object:
        """Return the value, or None for bytes that are none."""
        try:
            return codec.loads(bvalue)
        except codec.Unreadable:
            return None

    def dump(self, value, f, protocol=0):  # type: ignore[no-untyped-def]
        """Write the value to a file."""
        f.write(self.dumps(value))

    def load(self, f):  # type: ignore[no-untyped-def]
        """Return what a file holds, or None."""
        return self.loads(f.read())


class CachelibStore:
    """A store on a back end of cachelib, such as Memcached or a folder.

    It has no locks between processes and cannot list its keys: what begins with a prefix is dropped
    together with everything else.
    """

    def __init__(self, cache: BaseCache, prefix: str, compress_above: int) -> None:
        if hasattr(cache, "serializer"):
            cache.serializer = CodecSerializer()
        self._cache = cache
        self._prefix = prefix
        self._compress_above = compress_above

    def look(self, key: str) -> Entry | None:
        """See Store."""
        entry = self._read(key)
        if entry is None or not entry.tags:
            return entry
        now = self._cache.get_many(*(self._tag(tag) for tag in entry.tags))
        return entry if list(now) == list(entry.tags.values()) else None

    def begin(
        self, key: str, tags: tuple[str, ...], token: str, life: float, *, missing: bool = False
    ) -> Begun:
        """See Store."""
        generations = self.generations(tags, life)
        entry = self._read(key)
        if entry is not None and not entry.tags.items() <= generations.items():
            entry = None
        return Begun(taken=entry is None or not missing, entry=entry, generations=generations)

    def generations(self, tags: tuple[str, ...], life: float) -> dict[str, str]:
        """See Store."""
        generations = {}
        for tag in tags:
            name = self._tag(tag)
            found = self._cache.get(name)
            if not isinstance(found, str):
                # Whoever comes first decides; a store that forgets it makes the entry a miss.
                self._cache.add(name, uuid4().hex, timeout=0)
                found = self._cache.get(name)
            generations[tag] = found if isinstance(found, str) else uuid4().hex
        return generations

    def keep(self, lock: str, key: str, entry: Entry, token: str) -> bool:
        """See Store."""
        self.put(key, entry)
        return True

    def release(self, key: str, token: str) -> None:
        """See Store."""

    def put(self, key: str, entry: Entry) -> None:
        """See Store."""
        sealed = seal(entry, self._compress_above)
        if not self._cache.set(self._name(key), sealed, timeout=lasts(entry)):
            raise Away

    def add(self, key: str, entry: Entry) -> bool:
        """See Store."""
        if self._read(key) is not None:
            return False
        self.put(key, entry)
        return True

    def drop(self, keys: tuple[str, ...], tags: tuple[str, ...], prefix: str | None) -> None:
        """See Store."""
        if prefix is not None:
            self._cache.clear()
            return
        for name in (*map(self._name, keys), *map(self._tag, tags)):
            self._cache.delete(name)

    def _read(self, key: str) -> Entry | None:
        data = self._cache.get(self._name(key))
        return unseal(data) if isinstance(data, bytes) else None

    def _name(self, key: str) -> str:
        return _short(f"{self._prefix}entry:{key}")

    def _tag(self, tag: str) -> str:
        return _short(f"{self._prefix}tag:{tag}")


def _short(name: str) -> str:
    """Return a name that Memcached takes: at most 250 letters, none of them a space."""
    quoted = quote(name, safe="/:~")
    return quoted if len(quoted) <= 200 else sha256(name.encode()).hexdigest()


def lasts(entry: Entry) -> int:
    """Return for how many seconds a store keeps the entry; 0 is for ever."""
    if entry.end == float("inf"):
        return 0
    return max(1, int(entry.end - entry.made) + 1)
