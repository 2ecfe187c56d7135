"""One request for a cached view: what it is answered with, and what is kept of the answer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import time
from typing import Any

from penstock.cache import keys
from penstock.cache.answers import (
    Answer,
    Headers,
    allowed,
    answer_of,
    payload,
    vary,
    why_not,
)
from penstock.cache.backends import Backend
from penstock.cache.entries import Entry, Lifetime, make
from penstock.cache.flights import VARIES, Again, Lead

# Where an exchange stands in the WSGI environment.
NAME = "penstock.cache"


@dataclass(frozen=True)
class Rule:
    """What a view declared: see `Cache.cached`."""

    label: str
    lifetime: Lifetime
    not_found: float
    max_age: int
    names: frozenset[str]
    tags: tuple[str, ...]
    user: str | None


class Exchange:
    """A request on its way through the cache.

    `enter` is called by the view's decorator and says whether the view has to run, `finish` by the
    layer around the application, when the answer is all there.
    """

    def __init__(
        self,
        backend: Backend,
        environ: dict[str, Any],
        *,
        replay: Callable[[dict[str, Any]], None],
        aside: bool = False,
        anew: bool = False,
    ) -> None:
        self.backend = backend
        self.environ = environ
        # Whether the request is none that the cache answers, such as for a part of a file.
        self.aside = aside
        # Whether this is no client's request but computes a stale answer anew.
        self.anew = anew
        self.rule: Rule | None = None
        # Set by the decorator where the answer comes piece by piece.
        self.streamed = False
        self.outcome = "bypass"
        self.found: Entry | None = None
        self._replay = replay
        self._key = ""
        self._lead: Lead | None = None
        self._waited = False
        self._old: Entry | None = None

    def enter(self, rule: Rule) -> Answer | None:
        """Return the kept answer, or None where the view has to run."""
        self.rule = rule
        if self.aside:
            return None
        if not self.backend.keeps:
            self.outcome = "miss"
            self._count("misses")
            return None
        # Each time around, an answer told of another header that it depends on.
        for _ in range(4):
            try:
                return self._enter(rule)
            except Again:
                continue
        return None

    def _enter(self, rule: Rule) -> Answer | None:
        self._key = keys.of(self.environ)
        narrower = bool(rule.names) or rule.user is not None
        if narrower:
            # What is kept is under a narrower key; here is only on what it depends.
            entry, tier = self.backend.look(self._key)
        else:
            entry, tier = self._look(rule)
        known = _names(entry)
        if known is not None or narrower:
            names = rule.names | (known or frozenset())
            self._key = keys.variant(self._key, self.environ, names, rule.user)
            self.rule = replace(rule, names=names)
            entry, tier = self._look(rule)
        answer = None if entry is None else answer_of(entry)
        if entry is not None and answer is not None:
            now = time()
            if now < entry.fresh and not self.anew:
                return self._serve(entry, "hit", tier)
            if now < entry.stale and not self.anew:
                self.backend.refresh(self._key, entry, lambda: self._replay(self.environ))
                return self._serve(entry, "stale", tier)
            self._old = entry
        self.outcome = "miss"
        if self.environ["REQUEST_METHOD"] == "HEAD":
            self._count("misses")
            return None
        if self._lead is not None or (entry is None and self._waited):
            # It has the lead, or has waited for as long as it may.
            self._count("misses")
            self._count("computations")
            return None
        return self._lead_or_follow(rule)

    def _look(self, rule: Rule) -> tuple[Entry | None, str]:
        """Return what is kept; where nothing is, the lead may be taken at the same time."""
        if self.anew or self.environ["REQUEST_METHOD"] == "HEAD":
            return self.backend.look(self._key)
        self._waited = False

        def waiting() -> None:
            self._waited = True
            self._count("waits")

        entry, tier, self._lead = self.backend.look_or_lead(
            self._key, rule.tags, rule.lifetime, waiting
        )
        return entry, tier

    def _lead_or_follow(self, rule: Rule) -> Answer | None:
        flights = self.backend.flights
        if self.anew:
            lead = flights.lead_at_once(self._key, rule.tags, rule.lifetime)
            if lead is None:
                # Somebody else does; the old answer takes the place of one that nobody gets.
                return answer_of(self._old) if self._old is not None else None
        else:
            lead_or_entry = flights.lead(
                self._key, rule.tags, rule.lifetime, lambda: self._count("waits")
            )
            if isinstance(lead_or_entry, Entry):
                if answer_of(lead_or_entry) is not None:
                    return self._serve(lead_or_entry, "hit", "store")
                lead_or_entry = None
            lead = lead_or_entry
            if lead is None and self._old is not None and self._old.end > time():
                return self._serve(self._old, "stale", "store")
            self._count("misses")
        self._lead = lead
        self._count("computations")
        return None

    def finish(self, status: int, headers: Headers, body: bytes | None) -> Answer | None:
        """Return the answer to send in place of what the application said, or None for that.

        `body` is None where it is streamed or is not sent.
        """
        rule = self.rule
        assert rule is not None
        if self.found is not None:
            return answer_of(self.found)
        lead, self._lead = self._lead, None
        if lead is None:
            if self.outcome == "miss" and why_not(status, headers, not_found=rule.not_found > 0):
                self.outcome = "bypass"
            return self._instead(status)
        refused = why_not(status, headers, not_found=rule.not_found > 0)
        if body is None or refused is not None:
            lead.give_up()
            self.outcome = "bypass"
            self._count("bypassed")
            return self._instead(status)
        try:
            entry = make(
                payload(status, headers, body, rule.max_age),
                self._lifetime(rule, status, headers),
                label=rule.label,
                cost=lead.cost,
                tags=lead.generations,
            )
        except BaseException:
            lead.give_up()
            raise
        lead.keep(entry, self._place(rule, headers))
        return answer_of(entry)

    def fail(self) -> Answer | None:
        """Return the old answer where the application raised and there is one."""
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.give_up()
        return self._instead(500) if self.rule is not None else None

    def _instead(self, status: int) -> Answer | None:
        """Return the old answer in place of an error."""
        if status < 500 or self._old is None or time() >= self._old.end or self.anew:
            return None
        return self._serve(self._old, "stale", "store")

    def _serve(self, entry: Entry, outcome: str, tier: str) -> Answer | None:
        self.found, self.outcome = entry, outcome
        event = "hits" if outcome == "hit" else "stale"
        self.backend.numbers.count(entry.label, event, tier, entry.cost)
        return answer_of(entry)

    def _place(self, rule: Rule, headers: Headers) -> str:
        """Return the key of the answer, and say under the address on what it depends."""
        names = rule.names | vary(headers)
        if not names and rule.user is None:
            return self._key
        address = keys.of(self.environ)
        known, _ = self.backend.look(address)
        value = [sorted(names), rule.user is not None]
        if known is None or known.label != VARIES or known.value != value:
            self.backend.remember(address, make(value, Lifetime(0), label=VARIES))
        return keys.variant(address, self.environ, names, rule.user)

    def _lifetime(self, rule: Rule, status: int, headers: Headers) -> Lifetime:
        if status == 404:
            return Lifetime(rule.not_found)
        limit = allowed(headers)
        if limit is not None and (not rule.lifetime.timeout or limit < rule.lifetime.timeout):
            return replace(rule.lifetime, timeout=limit)
        return rule.lifetime

    def _count(self, event: str) -> None:
        assert self.rule is not None
        self.backend.numbers.count(self.rule.label, event)


def variation(entry: Entry) -> tuple[frozenset[str], bool] | None:
    """Return the headers that the answers of an address depend on, and whether a user matters."""
    if entry.label != VARIES:
        return None
    if entry.prepared is None:
        try:
            names, of_user = entry.value
            entry.prepared = frozenset(str(name) for name in names), bool(of_user)
        except (TypeError, ValueError):
            return None
    names_and_user: tuple[frozenset[str], bool] = entry.prepared
    return names_and_user


def _names(entry: Entry | None) -> frozenset[str] | None:
    found = None if entry is None else variation(entry)
    return None if found is None else found[0]
