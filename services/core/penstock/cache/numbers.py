"""How often the cache was asked and what came of it, by view and tier."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

# Between the parts of a field's name; no view is called so.
JOINT = "\t"
EVENTS = ("hits", "misses", "stale", "waits", "computations", "bypassed")
# How many events may wait to be added up.
BATCH = 1_000


class Numbers:
    """Counters of this process, and what of them has not been handed on yet."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows = _no_rows()
        # Those that are not added up yet: to note one takes no lock, which a hit would feel.
        self._events: deque[tuple[str, str, str, float]] = deque()

    def count(self, label: str, event: str, tier: str = "", saved: float = 0.0) -> None:
        """Count an event of a view, and the seconds of computation that it saved."""
        self._events.append((label, event, tier, saved))
        if len(self._events) >= BATCH:
            with self._lock:
                self._add_up()

    def take(self) -> dict[str, float]:
        """Return what was counted since the last call, by field, and begin anew."""
        with self._lock:
            self._add_up()
            rows, self._rows = self._rows, _no_rows()
        fields: dict[str, float] = {}
        for (label, event, tier), (times, saved) in rows.items():
            if times:
                fields[JOINT.join((label, event, tier))] = times
            if saved:
                name = JOINT.join((label, "saved", ""))
                fields[name] = fields.get(name, 0.0) + saved
        return fields

    def _add_up(self) -> None:
        while self._events:
            label, event, tier, saved = self._events.popleft()
            row = self._rows[label, event, tier]
            row[0] += 1
            row[1] += saved

    def give_back(self, fields: Mapping[str, float]) -> None:
        """Count again what was taken and could not be handed on."""
        with self._lock:
            for name, amount in fields.items():
                label, event, tier = name.split(JOINT)
                self._rows[label, event, tier][1 if event == "saved" else 0] += amount

    def fields(self) -> dict[str, float]:
        """Return what was counted since the last `take`, and keep it."""
        fields = self.take()
        self.give_back(fields)
        return fields


def _no_rows() -> defaultdict[tuple[str, str, str], list[float]]:
    """How often each event was, and the seconds that it saved."""
    return defaultdict(lambda: [0.0, 0.0])


def report(*sources: Iterable[tuple[str, float]]) -> dict[str, Any]:
    """Return the sum of several sources' fields, by view, with the totals of all views."""
    views: dict[str, dict[str, Any]] = {}
    total = _row()
    for source in sources:
        for name, amount in source:
            label, event, tier = name.split(JOINT)
            for row in (views.setdefault(label, _row()), total):
                if event == "saved":
                    row["seconds_saved"] = round(row["seconds_saved"] + amount, 3)
                    continue
                row[event] += int(amount)
                if tier:
                    row["by_tier"][tier] = row["by_tier"].get(tier, 0) + int(amount)
    for row in (total, *views.values()):
        asked = row["hits"] + row["stale"] + row["misses"]
        row["hit_ratio"] = round((row["hits"] + row["stale"]) / asked, 4) if asked else None
    return {"total": total, "views": dict(sorted(views.items()))}


def _row() -> dict[str, Any]:
    return {**dict.fromkeys(EVENTS, 0), "by_tier": {}, "seconds_saved": 0.0}
