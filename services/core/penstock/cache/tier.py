"""The tier in the process: what was read lately, at hand without asking any server.

It may be read only as long as it would have heard of a change elsewhere. Whoever listens for
changes says so, by `trust`; an entry that is younger than the lease may always be read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from threading import Lock
from time import monotonic, time

from penstock.cache.entries import Entry
from penstock.cache.policies import Policy, bounded

# Seconds within which a change made in one process is seen in every other.
LEASE = 1.0


@dataclass(slots=True, eq=False)
class Filling:
    """A value on its way in; `spoiled` when what it depends on changed since it began.

    Without `tags` it may depend on any.
    """

    key: str
    tags: frozenset[str] | None
    since: float
    spoiled: bool = False
    missed: bool = False


@dataclass(slots=True, eq=False)
class _Kept:
    entry: Entry
    since: float


class Tier:
    """A bounded cache of entries, safe for threads; see `policies.bounded` for its limits.

    `listened` is False for a cache that no other process can change: it is trusted for ever.
    """

    def __init__(
        self, policy: Policy, entries: int, size: int, *, listened: bool, lease: float = LEASE
    ) -> None:
        self._lease = lease
        self._trusted = 0.0 if listened else inf
        self._lock = Lock()
        self._kept = bounded(
            policy, entries=entries, size=size, sizeof=lambda it: it.entry.size, left=self._left
        )
        self._tagged: dict[str, set[str]] = {}
        self._fillings: set[Filling] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Entry | None:
        """Return what is kept under `key`, fresh or stale, or None."""
        try:
            with self._lock:
                kept: _Kept = self._kept[key]
        except KeyError:
            return None
        now = monotonic()
        if now >= self._trusted and now >= kept.since + self._lease:
            return None
        if time() >= kept.entry.end:
            return None
        return kept.entry

    def trust(self, heard: float) -> None:
        """Take note that every change before the monotonic time `heard` has been told."""
        self._trusted = heard + self._lease

    def reconnected(self) -> None:
        """Forget everything: what changed meanwhile was not told."""
        with self._lock:
            self._kept.clear()
            self._tagged.clear()
            for filling in self._fillings:
                filling.missed = True

    def begin(self, key: str, tags: Iterable[str] | None = None) -> Filling:
        """Take note that a value is being read or computed; ended by `put` or `give_up`."""
        filling = Filling(key, None if tags is None else frozenset(tags), monotonic())
        with self._lock:
            self._fillings.add(filling)
        return filling

    def give_up(self, filling: Filling) -> None:
        """Forget a value that was on its way."""
        with self._lock:
            self._fillings.discard(filling)

    def put(self, filling: Filling, entry: Entry | None, key: str | None = None) -> None:
        """Keep an entry, unless what it depends on has changed since its filling began.

        It is kept under the filling's key or another that is given. None ends the filling alone.
        """
        key = key or filling.key
        with self._lock:
            self._fillings.discard(filling)
            if entry is None or filling.spoiled or filling.missed:
                return
            self._forget(key)
            try:
                self._kept[key] = _Kept(entry, filling.since)
            except ValueError:
                return
            for tag in entry.tags:
                self._tagged.setdefault(tag, set()).add(key)

    def drop(
        self, keys: Iterable[str] = (), tags: Iterable[str] = (), prefix: str | None = None
    ) -> None:
        """Forget what is under one of `keys`, carries one of `tags` or begins with `prefix`."""
        keys, tags = set(keys), set(tags)
        with self._lock:
            for filling in self._fillings:
                filling.spoiled |= (
                    filling.key in keys
                    or (bool(tags) if filling.tags is None else not tags.isdisjoint(filling.tags))
                    or (prefix is not None and filling.key.startswith(prefix))
                )
            gone = keys.union(*(self._tagged.get(tag, ()) for tag in tags))
            if prefix is not None:
                gone.update(key for key in self._kept if key.startswith(prefix))
            for key in gone:
                self._forget(key)

    def _forget(self, key: str) -> None:
        if key in self._kept:
            del self._kept[key]

    def _left(self, key: str, kept: _Kept) -> None:
        for tag in kept.entry.tags:
            keys = self._tagged.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._tagged[tag]
