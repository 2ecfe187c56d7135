"""Entries in Redis, and what happens while it does not answer.

Each request to it has a budget of milliseconds. The first that fails opens a circuit: from then on
nothing is asked, until the listener has found by itself that the server answers again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Any, cast
from uuid import uuid4
from weakref import ref

import msgpack
import structlog
from redis import ConnectionPool, Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError
from redis.retry import Retry

from penstock.cache.entries import Entry, seal, unseal
from penstock.cache.numbers import Numbers
from penstock.cache.stores import Away, Begun
from penstock.cache.tier import Tier

logger = structlog.get_logger(__name__)

# Seconds that one answer of the server may take.
BUDGET = 0.05
# Seconds between two questions of the listener whether the server is still there.
BEAT = 0.25
# Seconds that the listener waits for an answer; it keeps no reader waiting.
PATIENCE = 0.5
# Milliseconds that a lock lasts unless its holder renews it.
LOCK = 3000
# Milliseconds that the tags of an entry without an end are remembered.
FOREVER = 365 * 86400 * 1000
# Seconds that the numbers are kept after the last was added.
NUMBERS = 30 * 86400

# A tag without a generation gets the one that is given; all are remembered for so long.
_GENERATIONS = """
local function generations(first, new, lasts)
  local found = {}
  for i = first, #KEYS do
    local now = redis.call('GET', KEYS[i])
    if not now then
      now = new
      redis.call('SET', KEYS[i], now, 'PX', lasts)
    elseif redis.call('PTTL', KEYS[i]) < tonumber(lasts) then
      redis.call('PEXPIRE', KEYS[i], lasts)
    end
    found[#found + 1] = now
  end
  return found
end
"""
GENERATIONS = f"{_GENERATIONS} return generations(1, ARGV[1], ARGV[2])"
# A computation of one generation of its tags does not wait for that of an older one.
BEGIN = f"""
{_GENERATIONS}
local entry = redis.call('GET', KEYS[1])
if entry and ARGV[5] == '1' then
  -- Nothing is written, so that a full server is still read.
  return {{0, entry, #KEYS > 2 and redis.call('MGET', unpack(KEYS, 3)) or {{}}}}
end
local lock = redis.call('GET', KEYS[2])
local now = generations(3, ARGV[2], ARGV[3])
local mine = ' ' .. table.concat(now, ' ')
if lock and string.sub(lock, -#mine) == mine then
  return {{0, entry, now}}
end
redis.call('SET', KEYS[2], ARGV[1] .. mine, 'PX', ARGV[4])
return {{1, entry, now}}
"""
HOLDS = """
local lock = redis.call('GET', KEYS[1])
if not lock or string.sub(lock, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
"""
# Who has nothing of what was not there needs not be told of it.
KEEP = f"""
{HOLDS}
local replaced = redis.call('PTTL', KEYS[2]) ~= -2
redis.call('DEL', KEYS[1])
if ARGV[3] == '0' then
  redis.call('SET', KEYS[2], ARGV[2])
else
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
if replaced then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return 1
"""
RELEASE = f"{HOLDS} return redis.call('DEL', KEYS[1])"
RENEW = f"{HOLDS} return redis.call('PEXPIRE', KEYS[1], ARGV[2])"


class RedisStore:
    """Entries in a Redis server, of which every process with the same prefix has the same."""

    def __init__(self, url: str, prefix: str, compress_above: int, budget: float = BUDGET) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            # One more try would be one more budget.
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=budget,
            socket_timeout=budget,
        )
        self.client = Redis(connection_pool=self._pool)
        self._prefix = prefix
        self._compress_above = compress_above
        self.channel = f"{prefix}changes"
        # Tells this process's own changes, which it knows of, from those of others.
        self.origin = uuid4().hex
        self._begin = self.client.register_script(BEGIN)
        self._generations = self.client.register_script(GENERATIONS)
        self._keep = self.client.register_script(KEEP)
        self._release = self.client.register_script(RELEASE)
        self._renew = self.client.register_script(RENEW)
        self._lock = Lock()
        self._open = False
        self._held: dict[str, str] = {}
        self._owed: list[tuple[tuple[str, ...], tuple[str, ...], str | None]] = []

    # What a back end asks

    def look(self, key: str) -> Entry | None:
        """See Store."""
        with self._asked():
            entry = unseal(cast("bytes | None", self.client.get(self._entry(key))))
            if entry is None or not entry.tags:
                return entry
            now = cast("list[bytes | None]", self.client.mget(*map(self._tag, entry.tags)))
        return entry if now == [it.encode() for it in entry.tags.values()] else None

    def begin(
        self, key: str, tags: tuple[str, ...], token: str, life: float, *, missing: bool = False
    ) -> Begun:
        """See Store."""
        keys = [self._entry(key), self._lock_of(key), *map(self._tag, tags)]
        with self._asked():
            taken, data, now = self._begin(
                keys, [token, uuid4().hex, _remembered(life), LOCK, int(missing)]
            )
        generations = dict(zip(tags, ((it or b"").decode() for it in now), strict=True))
        if taken:
            with self._lock:
                self._held[key] = token
        entry = unseal(data)
        if entry is not None and not entry.tags.items() <= generations.items():
            entry = None
        return Begun(taken=bool(taken), entry=entry, generations=generations)

    def generations(self, tags: tuple[str, ...], life: float) -> dict[str, str]:
        """See Store."""
        with self._asked():
            now = self._generations([*map(self._tag, tags)], [uuid4().hex, _remembered(life)])
        return dict(zip(tags, (it.decode() for it in now), strict=True))

    def keep(self, lock: str, key: str, entry: Entry, token: str) -> bool:
        """See Store."""
        self._let_go(lock)
        sealed = seal(entry, self._compress_above)
        told = self._change((key,), (), None)
        with self._asked():
            return bool(
                self._keep(
                    [self._lock_of(lock), self._entry(key)],
                    [token, sealed, _milliseconds(entry) or 0, self.channel, told],
                )
            )

    def release(self, key: str, token: str) -> None:
        """See Store."""
        self._let_go(key)
        with self._asked():
            self._release([self._lock_of(key)], [token])

    def put(self, key: str, entry: Entry) -> None:
        """See Store."""
        with self._asked(), self.client.pipeline(transaction=False) as commands:
            commands.set(
                self._entry(key), seal(entry, self._compress_above), px=_milliseconds(entry)
            )
            commands.publish(self.channel, self._change((key,), (), None))
            commands.execute()

    def add(self, key: str, entry: Entry) -> bool:
        """See Store."""
        sealed = seal(entry, self._compress_above)
        with self._asked():
            return bool(self.client.set(self._entry(key), sealed, px=_milliseconds(entry), nx=True))

    def drop(self, keys: tuple[str, ...], tags: tuple[str, ...], prefix: str | None) -> None:
        """See Store. What cannot be done now is done before the server is asked anything again."""
        try:
            with self._asked():
                self._drop(keys, tags, prefix)
        except Away:
            with self._lock:
                self._owed.append((keys, tags, prefix))
                # One that drops everything takes less room than many that each drop a little.
                if len(self._owed) > 1000:
                    self._owed = [((), (), "")]
            raise

    def numbers(self) -> dict[str, float]:
        """Return the numbers of all processes."""
        with self._asked():
            held = cast("dict[bytes, bytes]", self.client.hgetall(f"{self._prefix}numbers"))
        return {name.decode(): float(amount) for name, amount in held.items()}

    @property
    def answers(self) -> bool:
        """Whether the server answered when it was last asked."""
        return not self._open

    # What the listener does

    def beat(self, numbers: Numbers) -> None:
        """Make sure that the server can be written to, and hand on what waits for that.

        A server that only reads would let nothing be dropped. Deleting is a write that is allowed
        where the server is full, too. Raises RedisError.
        """
        self.client.delete(f"{self._prefix}nothing")
        with self._lock:
            owed, self._owed = self._owed, []
        try:
            while owed:
                self._drop(*owed[-1])
                owed.pop()
        finally:
            if owed:
                with self._lock:
                    self._owed += owed
        for key, token in list(self._held.items()):
            self._renew([self._lock_of(key)], [token, LOCK])
        self._hand_on(numbers)
        if self._open:
            self._open = False
            logger.info("the cache server answers again")

    def trip(self, error: Exception) -> None:
        """Ask nothing more until the listener has found the server well."""
        if not self._open:
            self._open = True
            logger.warning("the cache server does not answer", error=str(error))

    def change_of(self, data: bytes) -> tuple[list[str], list[str], str | None] | None:
        """Return what another process has changed: keys, tags, prefix; None for anything else."""
        try:
            origin, keys, tags, prefix = msgpack.unpackb(data)
            # Who knows what was meant? So it is all of it.
            return None if origin == self.origin else (list(keys), list(tags), prefix)
        except Exception:  # anybody who may publish can publish anything
            return ([], [], "")

    # How

    def _hand_on(self, numbers: Numbers) -> None:
        taken = numbers.take()
        if not taken:
            return
        try:
            with self.client.pipeline(transaction=False) as commands:
                for name, amount in taken.items():
                    commands.hincrbyfloat(f"{self._prefix}numbers", name, amount)
                commands.expire(f"{self._prefix}numbers", NUMBERS)
                commands.execute()
        except OutOfMemoryError:
            numbers.give_back(taken)
        except RedisError:
            numbers.give_back(taken)
            raise

    def _drop(self, keys: tuple[str, ...], tags: tuple[str, ...], prefix: str | None) -> None:
        if prefix is not None:
            self._drop_prefix(prefix)
        # Without its lock, what is being computed under a key will not be kept.
        names = [
            *(name for key in keys for name in (self._entry(key), self._lock_of(key))),
            *map(self._tag, tags),
        ]
        with self.client.pipeline(transaction=False) as commands:
            if names:
                commands.delete(*names)
            commands.publish(self.channel, self._change(keys, tags, prefix))
            commands.execute()

    def _drop_prefix(self, prefix: str) -> None:
        kinds = ["entry:", "lock:"]
        if not prefix:
            kinds.append("tag:")
        for kind in kinds:
            pattern = f"{_literally(self._prefix + kind + prefix)}*"
            cursor = 0
            while True:
                cursor, names = cast(
                    "tuple[int, list[bytes]]", self.client.scan(cursor, pattern, count=1000)
                )
                if names:
                    self.client.unlink(*names)
                if not cursor:
                    break

    @contextmanager
    def _asked(self) -> Iterator[None]:
        if self._open:
            raise Away
        try:
            yield
        except OutOfMemoryError as error:
            # It is full and still answers.
            raise Away(str(error)) from None
        except (RedisError, OSError) as error:
            self.trip(error)
            raise Away(str(error)) from None

    def _let_go(self, key: str) -> None:
        with self._lock:
            self._held.pop(key, None)

    def _change(self, keys: tuple[str, ...], tags: tuple[str, ...], prefix: str | None) -> bytes:
        data: bytes = msgpack.packb([self.origin, keys, tags, prefix])
        return data

    def _entry(self, key: str) -> str:
        return f"{self._prefix}entry:{key}"

    def _lock_of(self, key: str) -> str:
        return f"{self._prefix}lock:{key}"

    def _tag(self, tag: str) -> str:
        return f"{self._prefix}tag:{tag}"


class Listener:
    """Hears of changes in other processes and keeps asking whether the server is there.

    A thread of its own in each process. It ends when the store that it listens for is gone.
    """

    def __init__(self, store: RedisStore, tier: Tier, numbers: Numbers) -> None:
        self.ready = Event()
        self._thread = Thread(
            target=_listen,
            args=(ref(store), ref(tier), numbers, self.ready),
            name="penstock-cache",
            daemon=True,
        )
        self._thread.start()


def _listen(
    to_store: Callable[[], RedisStore | None],
    to_tier: Callable[[], Tier | None],
    numbers: Numbers,
    ready: Event,
) -> None:
    while True:
        store, tier = to_store(), to_tier()
        if store is None or tier is None:
            return
        try:
            _listen_once(store, tier, numbers, ready)
        except (RedisError, OSError) as error:
            store.trip(error)
        except Exception:  # without this thread the process would never hear of a change again
            logger.exception("the cache's listener failed")
        del store, tier
        sleep(BEAT)


def _listen_once(store: RedisStore, tier: Tier, numbers: Numbers, ready: Event) -> None:
    """Listen until the connection fails, and raise what it failed with."""
    with store.client.pubsub() as channel:  # type: ignore[no-untyped-call]
        channel.subscribe(store.channel)
        _until(channel, "subscribe", store, tier)
        tier.reconnected()
        references = ref(store), ref(tier)
        del store, tier
        while True:
            held, near = references[0](), references[1]()
            if held is None or near is None:
                return
            heard = monotonic()
            channel.ping()
            # The server answers in order: whatever it sent before this has been read then.
            _until(channel, "pong", held, near)
            was_well = held.answers
            try:
                held.beat(numbers)
            except RedisError as error:
                # Others may be unable to say what they change, as with a server that only reads.
                held.trip(error)
            else:
                if not was_well:
                    near.reconnected()
                near.trust(heard)
            ready.set()
            end = heard + BEAT
            while (left := end - monotonic()) > 0:
                _take(channel.get_message(timeout=left), held, near)
            del held, near


def _until(channel: Any, kind: str, store: RedisStore, tier: Tier) -> None:
    end = monotonic() + PATIENCE
    while (left := end - monotonic()) > 0:
        message = channel.get_message(timeout=left)
        if message is not None and message["type"] == kind:
            return
        _take(message, store, tier)
    raise TimeoutError(f"no {kind} within {PATIENCE} s")


def _take(message: dict[str, Any] | None, store: RedisStore, tier: Tier) -> None:
    if message is not None and message["type"] == "message":
        change = store.change_of(message["data"])
        if change is not None:
            tier.drop(*change)


def _remembered(life: float) -> int:
    """Return for how many milliseconds the generation of an entry's tag is remembered.

    Longer than the entry lasts; forgetting it earlier makes the entry a miss.
    """
    return (FOREVER if life == inf else int(life * 1000)) + LOCK


def _milliseconds(entry: Entry) -> int | None:
    return None if entry.end == inf else max(1, int((entry.end - entry.made) * 1000))


def _literally(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in text)
