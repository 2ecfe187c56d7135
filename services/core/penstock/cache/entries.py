"""What is kept under a key: a value, how long it holds, and what it depends on."""

from dataclasses import dataclass, field
from math import inf
from random import uniform
from time import time
from typing import Any

from penstock.cache import codec

# What is kept holds for between this share of its time and all of it, so that what was computed
# together does not expire together.
JITTER = 0.9


@dataclass(frozen=True)
class Lifetime:
    """How long an entry holds, in seconds; a timeout of 0 means for ever.

    After `timeout` it is stale: for `stale` seconds it is still served while it is computed anew,
    and for `on_error` seconds where computing it fails.
    """

    timeout: float
    stale: float = 0
    on_error: float = 0


@dataclass(slots=True, eq=False)
class Entry:
    """A kept value. Times are seconds since the epoch; `cost` is how long it took.

    `tags` gives for each tag the generation that the entry was computed in: it holds as long as
    that is the current one. `prepared` is whatever a reader made of the payload, to be used again.
    """

    payload: bytes
    made: float
    fresh: float
    stale: float
    end: float
    cost: float = 0.0
    label: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    prepared: Any = None
    # The earliest time at which a stale entry is computed anew in this process.
    again: float = 0.0

    @property
    def size(self) -> int:
        """What it takes in memory, roughly, in bytes."""
        return len(self.payload) + 500

    def state(self) -> str:
        """Return "hit" while it is fresh, "stale" while it is served all the same, then "old"."""
        now = time()
        return "hit" if now < self.fresh else "stale" if now < self.stale else "old"

    @property
    def value(self) -> Any:
        """The value, a new one each time; raises Unreadable."""
        return codec.loads(self.payload)


def make(
    value: Any,
    lifetime: Lifetime,
    *,
    label: str = "",
    cost: float = 0.0,
    tags: dict[str, str] | None = None,
) -> Entry:
    """Return an entry that holds from now on; raises TypeError for a value that cannot be kept."""
    now = time()
    fresh = now + lifetime.timeout * uniform(JITTER, 1) if lifetime.timeout else inf  # noqa: S311
    return Entry(
        payload=codec.dumps(value),
        made=now,
        fresh=fresh,
        stale=fresh + lifetime.stale,
        end=fresh + max(lifetime.stale, lifetime.on_error),
        cost=cost,
        label=label,
        tags=tags or {},
    )


def seal(entry: Entry, compress_above: int = 0) -> bytes:
    """Return the entry as bytes for a store."""
    fields = [entry.made, entry.fresh, entry.stale, entry.end, entry.cost, entry.label, entry.tags]
    return codec.dumps([*fields, entry.payload], compress_above)


def unseal(data: bytes | None) -> Entry | None:
    """Return the entry, or None for bytes that are none or that is over."""
    if data is None:
        return None
    try:
        made, fresh, stale, end, cost, label, tags, payload = codec.loads(data)
        entry = Entry(
            payload, float(made), float(fresh), float(stale), float(end), float(cost), label, tags
        )
        right = (
            isinstance(payload, bytes)
            and isinstance(label, str)
            and isinstance(tags, dict)
            and all(isinstance(text, str) for pair in tags.items() for text in pair)
        )
        codec.loads(payload)
        return entry if right and time() < entry.end else None
    except (codec.Unreadable, TypeError, ValueError):
        return None
