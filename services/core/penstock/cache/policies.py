"""What goes first when a bounded cache is full: exact LRU, LFU and random replacement."""

from collections.abc import Callable, Sequence
from random import choice as any_of
from typing import Any, Literal, TypeAlias

from cachetools import Cache, LFUCache, LRUCache, RRCache

Policy = Literal["lru", "lfu", "random"]


class _Bounded(Cache[Any, Any]):
    """What the three have in common: a limit of entries beside the one of bytes."""

    entries: int
    left: Callable[[Any, Any], None] | None = None

    def __setitem__(self, key: Any, value: Any, *rest: Any) -> None:
        if key not in self and self.getsizeof(value) <= self.maxsize:
            while len(self) >= self.entries:
                self.popitem()
        super().__setitem__(key, value, *rest)

    def __delitem__(self, key: Any, *rest: Any) -> None:
        value = self.peek(key)
        super().__delitem__(key, *rest)
        if self.left is not None:
            self.left(key, value)

    def peek(self, key: Any) -> Any:
        """Return what is kept under `key`, which does not count as a use; raises KeyError."""
        return Cache.__getitem__(self, key)


class LruCache(_Bounded, LRUCache[Any, Any]):
    """The entry whose last use is longest ago goes first."""


class LfuCache(_Bounded, LFUCache[Any, Any]):
    """The entry used least often since it came goes first, among equals the least recent."""


class RandomCache(_Bounded, RRCache[Any, Any]):
    """Any entry goes, each with the same probability."""


BoundedCache: TypeAlias = LruCache | LfuCache | RandomCache


def _one(_: object) -> int:
    return 1


def bounded(
    policy: Policy,
    *,
    entries: int,
    size: int | None = None,
    sizeof: Callable[[Any], int] | None = None,
    choice: Callable[[Sequence[Any]], Any] = any_of,
    left: Callable[[Any, Any], None] | None = None,
) -> BoundedCache:
    """Return an empty mapping that keeps at most `entries` entries of `size` bytes in all.

    Reading `cache[key]` or `cache.get(key)` counts as a use, `key in cache` and `cache.peek(key)`
    do not. Every operation takes constant time. A value that alone is larger than `size` raises
    ValueError when it is set, and nothing goes for it. `sizeof` gives the bytes of a value (by
    default each counts one, and without `size` only entries count). `choice` picks who goes under
    "random", for a test that wants to know. `left(key, value)` is called for each entry that is
    evicted or deleted, not for those that `clear` takes. Not safe for threads.
    """
    if entries < 1:
        raise ValueError(f"entries: {entries} is less than one")
    size = entries if size is None else size
    sizeof = sizeof or _one
    cache: BoundedCache
    match policy:
        case "lru":
            cache = LruCache(size, sizeof)
        case "lfu":
            cache = LfuCache(size, sizeof)
        case "random":
            cache = RandomCache(size, choice, sizeof)
        case _:
            raise ValueError(f"policy: {policy!r} is not lru, lfu or random")
    cache.entries = entries
    cache.left = left
    return cache
