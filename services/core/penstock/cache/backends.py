"""The back ends that CACHE_TYPE names. None of them can be made to run what it reads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Lock
from time import monotonic, time
from typing import Any, Self

import cachelib
import structlog
from flask import Flask
from flask_caching.backends.base import BaseCache

from penstock.cache.entries import Entry, Lifetime, make
from penstock.cache.flights import Flights, Lead
from penstock.cache.numbers import Numbers, report
from penstock.cache.redis_store import BUDGET, Listener, RedisStore
from penstock.cache.stores import Away, CachelibStore, Store
from penstock.cache.tier import Tier

logger = structlog.get_logger(__name__)

# How many stale answers are computed anew at the same time in one process.
REFRESHERS = 4
# Seconds after which a stale entry is tried again when it could not be computed anew.
PAUSE = 1.0


class Backend(BaseCache):
    """A tier in the process, a store behind it, or one of the two; see Flask-Caching for the API.

    Neither reading nor writing raises anything because of a server. Writing raises TypeError for a
    value that the codec does not carry.
    """

    def __init__(
        self, store: Store | None, tier: Tier, config: dict[str, Any], *, keeps: bool = True
    ) -> None:
        super().__init__(default_timeout=config.get("CACHE_DEFAULT_TIMEOUT", 300))
        self.store = store
        self.tier = tier
        self.keeps = keeps
        self.stale = float(config.get("CACHE_STALE", 0))
        self.on_error = float(config.get("CACHE_STALE_ON_ERROR", 0))
        self.numbers = Numbers()
        self.flights = Flights(store, tier, float(config.get("CACHE_WAIT", 10)))
        self._guard = Lock()
        self._process = 0
        self._listener: Listener | None = None
        self._refreshers: ThreadPoolExecutor | None = None

    # What views and memoized functions use

    def lifetime(
        self,
        timeout: float | timedelta | None = None,
        stale: float | None = None,
        on_error: float | None = None,
    ) -> Lifetime:
        """Return the times of an entry, those of the configuration where they are not given."""
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds()
        return Lifetime(
            self.default_timeout if timeout is None else timeout,
            self.stale if stale is None else stale,
            self.on_error if on_error is None else on_error,
        )

    def look(self, key: str) -> tuple[Entry | None, str]:
        """Return what is kept, fresh or stale, and in which tier it was: process or store."""
        entry = self.tier.get(key)
        if entry is not None:
            return entry, "process"
        if self.store is None:
            return None, ""
        self._listen()
        filling = self.tier.begin(key)
        try:
            entry = self.store.look(key)
        except Away:
            entry = None
        finally:
            if entry is None:
                self.tier.give_up(filling)
        if entry is not None:
            self.tier.put(filling, entry)
        return entry, "store"

    def look_or_lead(
        self, key: str, tags: tuple[str, ...], lifetime: Lifetime, waiting: Callable[[], None]
    ) -> tuple[Entry | None, str, Lead | None]:
        """As `look`, and take the lead in the same question where nothing is kept.

        There may be neither: see `Flights.lead`. Raises Again.
        """
        entry = self.tier.get(key)
        if entry is not None:
            return entry, "process", None
        if self.store is not None:
            self._listen()
        asked, found = self.flights.look(key, tags, lifetime, waiting)
        if isinstance(found, Lead):
            return None, "", found
        return (found, "store", None) if asked else (*self.look(key), None)

    def refresh(self, key: str, entry: Entry, compute: Callable[[], None]) -> None:
        """Have a stale entry computed anew by another thread, unless that is being done.

        `compute` is called without arguments and does everything else.
        """
        now = monotonic()
        with self._guard:
            if now < entry.again:
                return
            entry.again = now + PAUSE
            if self._refreshers is None or self._process != os.getpid():
                self._refreshers = ThreadPoolExecutor(REFRESHERS, "penstock-refresh")
        self._listen()
        self._refreshers.submit(_logged, key, compute)

    def remember(self, key: str, entry: Entry) -> None:
        """Keep an entry that carries no tags, whoever else is at it."""
        filling = self.tier.begin(key, ())
        try:
            if self.store is not None:
                self.store.put(key, entry)
        except Away:
            pass
        self.tier.put(filling, entry)

    def fetch(
        self,
        key: str,
        compute: Callable[[], Any],
        lifetime: Lifetime,
        *,
        tags: tuple[str, ...] = (),
        label: str = "",
        keeps: Callable[[Any], bool] = lambda _: True,
    ) -> Any:
        """Return the value under `key`, computed once for all who ask where it is not there.

        What `compute` raises comes out, unless there is an old value for that case. A computed
        value for which `keeps` is false is returned and not kept. Raises TypeError for one that
        the codec does not carry.
        """
        entry, tier = self.look(key)
        state = entry.state() if entry else "old"
        if entry is not None and state == "stale":
            self.refresh(
                key, entry, lambda: self._compute_anew(key, compute, lifetime, tags, label, keeps)
            )
        if entry is not None and state != "old":
            event = "hits" if state == "hit" else "stale"
            self.numbers.count(label, event, tier, entry.cost)
            return entry.value
        lead = self.flights.lead(key, tags, lifetime, lambda: self.numbers.count(label, "waits"))
        if isinstance(lead, Entry):
            self.numbers.count(label, "hits", "store", lead.cost)
            return lead.value
        if lead is None and entry is not None:
            self.numbers.count(label, "stale", tier, entry.cost)
            return entry.value
        self.numbers.count(label, "misses")
        try:
            return self._compute(lead, compute, lifetime, label, keeps)
        except Exception:
            if entry is None or time() >= entry.end:
                raise
            logger.exception("an old value is served, since computing it failed", key=key)
            self.numbers.count(label, "stale", tier, entry.cost)
            return entry.value

    def drop(self, *, tags: tuple[str, ...] = (), prefix: str | None = None) -> bool:
        """Drop what carries one of the tags, or what is under a key that begins with `prefix`.

        Returns False where the store could not be told now; a Redis store is told before it is
        asked anything again.
        """
        return self._drop((), tags, prefix)

    def report(self) -> dict[str, Any]:
        """Return the numbers by view and tier, of all processes where they share a Redis."""
        own = self.numbers.fields()
        if isinstance(self.store, RedisStore):
            try:
                return {"of": "all processes", **report(self.store.numbers().items(), own.items())}
            except Away:
                pass
        return {"of": "this process", **report(own.items())}

    def shared_report(self) -> dict[str, Any]:
        """Return the numbers that all processes have handed on; nothing where they share no Redis.

        Unlike those of `report`, they do not fall when another process is asked.
        """
        if isinstance(self.store, RedisStore):
            with suppress(Away):
                return report(self.store.numbers().items())
        return {}

    # The API of Flask-Caching

    def get(self, key: str) -> Any:
        """Return the value kept under `key`, or None."""
        entry = self._fresh(key)
        return None if entry is None else _value(entry)

    def set(
        self,
        key: str,
        value: Any,
        timeout: float | timedelta | None = None,
        tags: tuple[str, ...] = (),
    ) -> bool:
        """Keep a value; returns False where the store does not take it."""
        return self._set(key, value, timeout, tags, only_new=False)

    def add(
        self,
        key: str,
        value: Any,
        timeout: float | timedelta | None = None,
        tags: tuple[str, ...] = (),
    ) -> bool:
        """Keep a value where there is none; returns whether it was kept."""
        return self._set(key, value, timeout, tags, only_new=True)

    def delete(self, key: str) -> bool:
        """Drop what is kept under `key`; what is being computed for it now is not kept either."""
        return self._drop((key,), (), None)

    def delete_many(self, *keys: str) -> list[Any]:
        """Drop what is kept under the keys, at once."""
        return list(keys) if self._drop(keys, (), None) else []

    def unlink(self, *keys: str) -> list[Any]:
        """As delete_many."""
        return self.delete_many(*keys)

    def has(self, key: str) -> bool:
        """Return whether a value is kept under `key`."""
        return self._fresh(key) is not None

    def clear(self) -> bool:
        """Drop everything."""
        return self.drop(prefix="")

    # How

    def _compute(
        self,
        lead: Lead | None,
        compute: Callable[[], Any],
        lifetime: Lifetime,
        label: str,
        keeps: Callable[[Any], bool],
    ) -> Any:
        self.numbers.count(label, "computations")
        if lead is None:
            return compute()
        try:
            value = compute()
            entry = make(value, lifetime, label=label, cost=lead.cost, tags=lead.generations)
            kept = keeps(value)
        except BaseException:
            lead.give_up()
            raise
        if kept:
            lead.keep(entry)
        else:
            lead.give_up()
        return value

    def _compute_anew(
        self,
        key: str,
        compute: Callable[[], Any],
        lifetime: Lifetime,
        tags: tuple[str, ...],
        label: str,
        keeps: Callable[[Any], bool],
    ) -> None:
        lead = self.flights.lead_at_once(key, tags, lifetime)
        if lead is not None:
            self._compute(lead, compute, lifetime, label, keeps)

    def _fresh(self, key: str) -> Entry | None:
        entry, _ = self.look(key)
        return entry if entry is not None and time() < entry.fresh else None

    def _set(
        self,
        key: str,
        value: Any,
        timeout: float | timedelta | None,
        tags: tuple[str, ...],
        only_new: bool,
    ) -> bool:
        entry = make(value, Lifetime(self.lifetime(timeout).timeout))
        if not self.keeps:
            return False
        if self.store is None:
            if only_new and self.has(key):
                return False
            entry.tags = dict.fromkeys(tags, "")
            self.tier.put(self.tier.begin(key, tags), entry)
            return True
        self._listen()
        try:
            if tags:
                entry.tags = self.store.generations(tags, entry.end - entry.made)
            if only_new:
                return self.store.add(key, entry)
            self.tier.drop((key,))
            filling = self.tier.begin(key, tags)
            try:
                self.store.put(key, entry)
            except Away:
                self.tier.give_up(filling)
                raise
            self.tier.put(filling, entry)
        except Away:
            return False
        return True

    def _drop(self, keys: tuple[str, ...], tags: tuple[str, ...], prefix: str | None) -> bool:
        self.tier.drop(keys, tags, prefix)
        if self.store is None:
            return True
        self._listen()
        try:
            self.store.drop(keys, tags, prefix)
        except Away:
            return False
        return True

    def _listen(self) -> None:
        """Begin to listen for changes, in each process once."""
        if self._process == os.getpid():
            return
        with self._guard:
            if self._process == os.getpid():
                return
            if isinstance(self.store, RedisStore):
                self._listener = Listener(self.store, self.tier, self.numbers)
                self._listener.ready.wait(BUDGET)
            self._process = os.getpid()


class TieredCache(Backend):
    """Redis, with the tier in the process before it."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Self:
        """Make it of CACHE_REDIS_URL, CACHE_KEY_PREFIX and the limits of the tier.

        CACHE_BUDGET is for how many seconds a read may wait for Redis.
        """
        store = RedisStore(
            config["CACHE_REDIS_URL"],
            _prefix(config),
            int(config.get("CACHE_COMPRESS_ABOVE", 0)),
            float(config.get("CACHE_BUDGET", BUDGET)),
        )
        return cls(store, _tier(config, listened=True), config)


class SimpleCache(Backend):
    """The tier in the process alone, for one process."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Self:
        """Make it of the limits of the tier."""
        return cls(None, _tier(config, listened=False), config)


class FileSystemCache(Backend):
    """A folder that the processes of a machine share."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Self:
        """Make it of CACHE_DIR and CACHE_THRESHOLD, the most files in it."""
        folder = Path(config["CACHE_DIR"])
        files = cachelib.FileSystemCache(str(folder), threshold=config.get("CACHE_THRESHOLD", 500))
        return cls(_cachelib(files, config), _no_tier(), config)


class MemcachedCache(Backend):
    """Memcached."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Self:
        """Make it of CACHE_MEMCACHED_SERVERS."""
        import memcache

        # A value says by itself that it is pickled, and whoever can write to the server can say so.
        client = memcache.Client(
            list(config["CACHE_MEMCACHED_SERVERS"]),
            pickler=_NoPickle,
            unpickler=_NoPickle,
            socket_timeout=BUDGET,
            dead_retry=1,
        )
        return cls(_cachelib(cachelib.MemcachedCache(client), config), _no_tier(), config)


class NullCache(Backend):
    """Keeps nothing, so that every read is computed; not even together with another."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Self:
        """Make it."""
        return cls(None, _no_tier(), config, keeps=False)


class _NoPickle:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def load(self) -> Any:
        """Refuse; the client counts it as a miss."""
        raise ValueError("a pickle is not read")

    dump = load


def _prefix(config: dict[str, Any]) -> str:
    return str(config.get("CACHE_KEY_PREFIX") or "")


def _tier(config: dict[str, Any], *, listened: bool) -> Tier:
    return Tier(
        config.get("CACHE_LOCAL_POLICY", "lfu"),
        int(config.get("CACHE_LOCAL_ENTRIES", 10_000)),
        int(config.get("CACHE_LOCAL_SIZE", 32 * 1024 * 1024)),
        listened=listened,
    )


def _no_tier() -> Tier:
    """A tier that holds nothing, since no change elsewhere would be heard of."""
    return Tier("lru", 1, 0, listened=True)


def _cachelib(cache: cachelib.BaseCache, config: dict[str, Any]) -> CachelibStore:
    return CachelibStore(cache, _prefix(config), int(config.get("CACHE_COMPRESS_ABOVE", 0)))


def _value(entry: Entry) -> Any:
    try:
        return entry.value
    except Exception:  # the payload is anybody's who may write to the store
        return None


def _logged(key: str, compute: Callable[[], None]) -> None:
    try:
        compute()
    except Exception:  # there is nobody else to tell
        logger.exception("a stale entry could not be computed anew", key=key)
