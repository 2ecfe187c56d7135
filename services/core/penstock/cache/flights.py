"""One computation at a time for each key, however many ask: threads, processes and machines."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock
from time import monotonic, perf_counter, sleep, time
from uuid import uuid4

from penstock.cache.entries import Entry, Lifetime
from penstock.cache.stores import Away, Begun, Store
from penstock.cache.tier import Filling, Tier

# Seconds between two looks whether another process has finished.
LOOK = 0.02


class Again(Exception):  # noqa: N818 - what the caller has to do
    """What was waited for is kept under another key: look again."""


@dataclass(slots=True, eq=False)
class _Turn:
    filling: Filling
    ended: Event = field(default_factory=Event)
    entry: Entry | None = None
    again: bool = False


class Lead:
    """The right to compute what is kept under a key, ended by `keep` or `give_up`."""

    def __init__(self, flights: "Flights", turn: _Turn, token: str, begun: Begun | None) -> None:
        self._flights = flights
        self._turn = turn
        self._token = token
        self._begun = begun
        self._since = perf_counter()

    @property
    def generations(self) -> dict[str, str]:
        """The generations of the tags when the computation began."""
        if self._begun is not None:
            return self._begun.generations
        return dict.fromkeys(self._turn.filling.tags or (), "")

    @property
    def cost(self) -> float:
        """Seconds since the computation began."""
        return perf_counter() - self._since

    def keep(self, entry: Entry, key: str | None = None) -> None:
        """Keep what was computed, unless what it depends on changed meanwhile, and end the lead.

        It is kept under the key of the lead or, where that turned out too wide, under another.
        """
        lock = self._turn.filling.key
        kept = not self._turn.filling.spoiled
        try:
            if self._begun is not None and self._flights.store is not None:
                kept = self._flights.store.keep(lock, key or lock, entry, self._token) and kept
        except Away:
            pass
        self._flights.tier.put(self._turn.filling, entry if kept else None, key)
        moved = key is not None and key != lock
        self._flights.end(self._turn, None if moved else entry, again=moved)

    def give_up(self) -> None:
        """End the lead without a result that others could use."""
        try:
            if self._begun is not None and self._flights.store is not None:
                with suppress(Away):
                    self._flights.store.release(self._turn.filling.key, self._token)
        finally:
            self._flights.tier.give_up(self._turn.filling)
            self._flights.end(self._turn, None, again=False)


class Flights:
    """Who computes what in this process. Followers wait for at most `wait` seconds."""

    def __init__(self, store: Store | None, tier: Tier, wait: float) -> None:
        self.store = store
        self.tier = tier
        self.wait = wait
        self._lock = Lock()
        self._turns: dict[str, _Turn] = {}

    def lead(
        self, key: str, tags: tuple[str, ...], lifetime: Lifetime, waiting: Callable[[], None]
    ) -> Lead | Entry | None:
        """Return the lead, or what another has computed meanwhile.

        None where that took too long or could not be kept: compute it, and keep nothing. `waiting`
        is called where others are waited for. Raises Again.
        """
        deadline = monotonic() + self.wait
        told = False
        while True:
            turn, mine = self._join(key, tags)
            if mine:
                return self._lead_everywhere(turn, lifetime, deadline, waiting, told)
            if not told:
                told = True
                waiting()
            if not turn.ended.wait(max(0.0, deadline - monotonic())):
                return None
            if turn.again:
                raise Again
            if turn.filling.spoiled:
                # What changed may have changed before this caller came.
                continue
            return turn.entry

    def look(
        self, key: str, tags: tuple[str, ...], lifetime: Lifetime, waiting: Callable[[], None]
    ) -> tuple[bool, Lead | Entry | None]:
        """Ask at once for what is kept and, where nothing is, for the lead.

        Returns whether that was asked, which it is not while this process is at the key already,
        and what `lead` returns, or an entry of any age. Raises Again.
        """
        turn, mine = self._join(key, tags)
        if not mine:
            return False, None
        token = uuid4().hex
        begun = self._ask(turn, token, lifetime, missing=True)
        if begun is None or begun.taken:
            return True, Lead(self, turn, token, begun)
        if begun.entry is not None:
            # Whoever follows looks again, and finds it in the tier, unless it is fresh.
            again = begun.entry.label == VARIES or not _fresh(begun.entry)
            return True, self._found(turn, token, begun, again=again)
        deadline = monotonic() + self.wait
        return True, self._lead_everywhere(turn, lifetime, deadline, waiting, told=False)

    def lead_at_once(self, key: str, tags: tuple[str, ...], lifetime: Lifetime) -> Lead | None:
        """Return the lead where nobody has it and nothing fresh is there, without waiting."""
        turn, mine = self._join(key, tags)
        if not mine:
            return None
        token = uuid4().hex
        begun = self._ask(turn, token, lifetime)
        if begun is None:
            return Lead(self, turn, token, None)
        if begun.taken and not _fresh(begun.entry):
            return Lead(self, turn, token, begun)
        self._found(turn, token, begun)
        return None

    def end(self, turn: _Turn, entry: Entry | None, *, again: bool) -> None:
        """Tell those who wait."""
        with self._lock:
            if self._turns.get(turn.filling.key) is turn:
                del self._turns[turn.filling.key]
        turn.entry, turn.again = entry, again
        turn.ended.set()

    def _join(self, key: str, tags: tuple[str, ...]) -> tuple[_Turn, bool]:
        with self._lock:
            turn = self._turns.get(key)
            if turn is not None and not turn.filling.spoiled:
                return turn, False
            turn = self._turns[key] = _Turn(self.tier.begin(key, tags))
            return turn, True

    def _ask(
        self, turn: _Turn, token: str, lifetime: Lifetime, *, missing: bool = False
    ) -> Begun | None:
        """Return what the store says, or None where there is no store to ask."""
        if self.store is None:
            return None
        life = lifetime.timeout and lifetime.timeout + max(lifetime.stale, lifetime.on_error)
        filling = turn.filling
        try:
            return self.store.begin(
                filling.key,
                tuple(filling.tags or ()),
                token,
                life or float("inf"),
                missing=missing,
            )
        except Away:
            return None
        except BaseException:
            self.tier.give_up(filling)
            self.end(turn, None, again=False)
            raise

    def _lead_everywhere(
        self,
        turn: _Turn,
        lifetime: Lifetime,
        deadline: float,
        waiting: Callable[[], None],
        told: bool,
    ) -> Lead | Entry | None:
        token = uuid4().hex
        while True:
            begun = self._ask(turn, token, lifetime)
            if begun is None:
                return Lead(self, turn, token, None)
            if _fresh(begun.entry) or (begun.entry is not None and begun.entry.label == VARIES):
                again = begun.entry is not None and begun.entry.label == VARIES
                entry = self._found(turn, token, begun, again=again)
                if again:
                    raise Again
                return entry
            if begun.taken:
                return Lead(self, turn, token, begun)
            if not told:
                told = True
                waiting()
            if monotonic() >= deadline:
                self.tier.give_up(turn.filling)
                self.end(turn, None, again=False)
                return None
            sleep(LOOK)

    def _found(self, turn: _Turn, token: str, begun: Begun, *, again: bool = False) -> Entry | None:
        """End a turn for which another process has done the work."""
        assert self.store is not None
        if begun.taken:
            with suppress(Away):
                self.store.release(turn.filling.key, token)
        self.tier.put(turn.filling, begun.entry)
        self.end(turn, begun.entry, again=again)
        return begun.entry


# The label of an entry that only says on which headers the answers of an address depend.
VARIES = "(varies)"


def _fresh(entry: Entry | None) -> bool:
    return entry is not None and time() < entry.fresh
