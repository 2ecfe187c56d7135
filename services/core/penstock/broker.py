"""What Penstock keeps in the broker, and the scripts that change it in one step.

A job is always in exactly one place: its queue, a worker's holding, the delayed set or the dead
letters. Each move between two places is one command or one script, so a process can be killed
between any two lines without a job being lost or in two places.

    queue (list) --take--> holding (list, leased) --settle--> gone | queue | delayed | dead
    delayed (sorted set by due time) --move_due--> queue
    holding whose lease is over --sweep--> queue | dead
    dead letter (hash, and sorted sets to find it by) --exhume--> gone | queue

A full server refuses a write that may need memory, but not within a script whose first write was a
removal (Redis, script_lua.c: OOM is judged until a script has written). Each script here begins
with one, since a full broker must go on giving out jobs and keeping leases.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

# What kombu puts between a queue's name and a priority, in the name of the list that holds both.
PRIORITY = "\x06\x16"

# What Redis says while it cannot write its append-only file, as a rule because the disk is full.
NOT_WRITTEN = "MISCONF"

Word = str | bytes | int | float
Command = tuple[Word, ...]

# Milliseconds since 1970 by the server's clock, the only clock that all workers share.
NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# ARGV from `at`: for each command the number of its words, then the words. BURY, which the server
# does not know, writes a dead letter; its words are the letter's key and id, the same once more for
# when the first are taken (nothing keeps two messages from having one id), when it died, the number
# of indexes, the indexes, and fields with their values. A script that fails is not undone by the
# server, so what was removed first is put back: the queue may be no list, or a right be missing.
RUN = """
local function bury(at, last)
  local letter, id = ARGV[at], ARGV[at + 1]
  if redis.call('EXISTS', letter) == 1 then letter, id = ARGV[at + 2], ARGV[at + 3] end
  local fields = at + 6 + ARGV[at + 5]
  for i = at + 6, fields - 1 do redis.call('ZADD', ARGV[i], ARGV[at + 4], id) end
  redis.call('HSET', letter, 'id', id, unpack(ARGV, fields, last))
end

local function run(at)
  while ARGV[at] do
    local last = at + ARGV[at]
    if ARGV[at + 1] == 'BURY' then
      bury(at + 2, last)
    else
      redis.call(unpack(ARGV, at + 1, last))
    end
    at = last + 1
  end
end

local function run_or(undo, at)
  local fine, failure = pcall(run, at)
  if fine then return 1 end
  undo()
  return type(failure) == 'table' and failure or redis.error_reply(failure)
end
"""

# KEYS: holding. ARGV: item, commands. Ends a delivery, if it is still the caller's to end.
SETTLE = (
    RUN
    + """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
return run_or(function() redis.call('LPUSH', KEYS[1], ARGV[1]) end, 2)
"""
)

# KEYS: leases, holding. ARGV: item, commands. Takes a delivery from a worker whose lease is over.
SWEEP = (
    NOW
    + RUN
    + """
local due = redis.call('ZSCORE', KEYS[1], KEYS[2])
if not due or tonumber(due) > now then return 0 end
if redis.call('LREM', KEYS[2], -1, ARGV[1]) == 0 then return 0 end
return run_or(function() redis.call('LPUSH', KEYS[2], ARGV[1]) end, 2)
"""
)

# KEYS: letter. ARGV: when it died, commands. Removes a dead letter, if it is still the same one.
EXHUME = (
    RUN
    + """
if redis.call('HGET', KEYS[1], 'died_at') ~= ARGV[1] then return 0 end
local going = KEYS[1] .. ':going'
redis.call('RENAME', KEYS[1], going)
local done = run_or(function() redis.call('RENAME', going, KEYS[1]) end, 2)
redis.call('DEL', going)
return done
"""
)

# KEYS: leases. ARGV: lease in ms, holdings. Returns how many of them had no lease any more.
RENEW = (
    NOW
    + """
local lapsed = 0
for i = 2, #ARGV do
  local due = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if not due or tonumber(due) < now then lapsed = lapsed + 1 end
  redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
end
return lapsed
"""
)

# KEYS: reached. ARGV: ms that a break may last. Returns the ms since which the broker is reached.
REACHED = (
    NOW
    + """
local since = math.min(tonumber(redis.call('GET', KEYS[1]) or now), now)
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], since, 'PX', ARGV[1])
return now - since
"""
)

# KEYS: leases. ARGV: most items, ms after which an empty holding is forgotten, lease in ms, queues
# or none for all. The holdings of other queues are not looked into, which the caller's user may not
# be allowed. A lease that would last for longer than any does is of before the clock was set back.
EXPIRED = (
    NOW
    + """
local wanted = {}
for i = 4, #ARGV do wanted[ARGV[i]] = true end
for _, holding in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now + 2 * ARGV[3], '+inf')) do
  redis.call('ZREM', KEYS[1], holding)
  redis.call('ZADD', KEYS[1], now + ARGV[3], holding)
end
local found, items = {}, 0
for _, holding in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  local queue = holding:match('penstock:held:[^:]*:[^:]*:([^\\6]*)')
  if #ARGV < 4 or wanted[queue] then
    local held = redis.call('LRANGE', holding, 0, ARGV[1] - 1)
    if #held > 0 then
      found[#found + 1] = {holding, held}
      items = items + #held
      if items >= tonumber(ARGV[1]) then break end
    elseif now - redis.call('ZSCORE', KEYS[1], holding) > tonumber(ARGV[2]) then
      redis.call('ZREM', KEYS[1], holding)
    end
  end
end
return found
"""
)

# KEYS: delayed, queue. ARGV: most items.
MOVE_DUE = (
    NOW
    + """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, item in ipairs(due) do
  redis.call('ZREM', KEYS[1], item)
  local put = redis.pcall('LPUSH', KEYS[2], item)
  if type(put) == 'table' then
    redis.call('ZADD', KEYS[1], now, item)
    return put
  end
end
return #due
"""
)

# KEYS: the queues, then as many holdings. Takes from the first queue that has something, also on a
# full server, which would refuse LMOVE. One that is no list keeps nobody from the others.
TAKE = """
local half, failure = #KEYS / 2, false
for i = 1, half do
  local item = redis.pcall('RPOP', KEYS[i])
  if type(item) == 'table' then
    failure = item
  elseif item then
    redis.call('LPUSH', KEYS[half + i], item)
    return {KEYS[i], item}
  end
end
return failure
"""


def refuses_writes(error: ResponseError) -> bool:
    """Return whether a server takes nothing more: its memory is full, or its disk."""
    return isinstance(error, OutOfMemoryError) or NOT_WRITTEN in str(error)


@dataclass(frozen=True)
class Keys:
    """The names of everything in the broker, behind the transport's global_keyprefix."""

    prefix: str = ""

    @property
    def leases(self) -> str:
        """Sorted set: each holding, by the time in ms at which its lease is over."""
        return f"{self.prefix}penstock:leases"

    @property
    def reached(self) -> str:
        """String: the time in ms since when some worker has reached the broker without a break."""
        return f"{self.prefix}penstock:reached"

    @property
    def delayed_queues(self) -> str:
        """Set: the queues that have ever had something delayed."""
        return f"{self.prefix}penstock:delayed"

    @property
    def outbox(self) -> str:
        """List: updates of job records that are still to be written to the results."""
        return f"{self.prefix}penstock:outbox"

    def queue(self, name: str) -> str:
        """List: what waits in a queue, the oldest at the right."""
        return f"{self.prefix}{name}"

    def delayed(self, queue: str) -> str:
        """Sorted set: what will be in a queue, by the time in ms at which it is due."""
        return f"{self.prefix}penstock:delayed:{queue}"

    def holding(self, consumer: str, number: int, source: str) -> str:
        """List: what one connection of a worker took from the list `source` and has not ended."""
        return f"{self.prefix}penstock:held:{consumer}:{number}:{source}"

    def letter(self, letter_id: str) -> str:
        """Hash: a dead letter."""
        return f"{self.prefix}penstock:dead:letter:{letter_id}"

    def letters(
        self, queue: str | None = None, job: str | None = None, reason: str | None = None
    ) -> str:
        """Sorted set: dead letters by the time in seconds at which they died; all, or some.

        There is one for each combination of what can be asked for: a page is then one read of one
        set, whatever it is a page of.
        """
        given = {"queue": queue, "job": job, "reason": reason}
        parts = (f":{name}:{_part(value)}" for name, value in given.items() if value is not None)
        return f"{self.prefix}penstock:dead{''.join(parts)}"

    def letter_indexes(self, queue: str, job: str, reason: str) -> list[str]:
        """Return the names of the sets that a letter is in."""
        return [self.letters(*of) for of in product((queue, None), (job, None), (reason, None))]

    @property
    def letter_groups(self) -> str:
        """Set: the pairs of queue and reason, as JSON, that there have ever been letters of."""
        return f"{self.prefix}penstock:dead:groups"

    @property
    def letters_dropped(self) -> str:
        """Hash: how many letters retention dropped, by why it did and the letters' reason."""
        return f"{self.prefix}penstock:dead:dropped"

    def of_holding(self, holding: str) -> tuple[str, str]:
        """Return the consumer and the list that a holding's name was made of."""
        _, _, consumer, _, source = holding.removeprefix(self.prefix).split(":", 4)
        return consumer, source


class Broker:
    """The moves, on one client. All of them may raise RedisError."""

    def __init__(self, client: "Redis", prefix: str = "") -> None:
        self.client = client
        self.keys = Keys(prefix)
        # The scripts get whole keys, and a client that adds the prefix would add it once more.
        self._settle = client.register_script(SETTLE)
        self._sweep = client.register_script(SWEEP)
        self._exhume = client.register_script(EXHUME)
        self._renew = client.register_script(RENEW)
        self._reached = client.register_script(REACHED)
        self._expired = client.register_script(EXPIRED)
        self._move_due = client.register_script(MOVE_DUE)

    def settle(self, holding: str, item: bytes, commands: Iterable[Command] = ()) -> bool:
        """End a delivery and run `commands` in the same step; False when it was not held."""
        flat = _flat(commands)
        if not flat:
            return bool(self.client.lrem(holding, -1, cast("str", item)))
        return bool(self._settle(keys=[holding], args=[item, *flat]))

    def ending(self, holding: str, item: bytes) -> Command:
        """Return the command that ends a delivery, and answers how many it has ended."""
        return ("LREM", holding, -1, item)

    def sweep(self, holding: str, item: bytes, commands: Iterable[Command]) -> bool:
        """The same for a holding whose lease is over; False when it is not, or not held."""
        return bool(self._sweep(keys=[self.keys.leases, holding], args=[item, *_flat(commands)]))

    def exhume(
        self,
        letter_id: str,
        died_at: bytes,
        commands: Iterable[Command],
        client: Redis | None = None,
    ) -> bool:
        """Remove a dead letter and run `commands` in the same step; False when it is not there.

        `died_at` is the letter's as it was read. On a pipeline as `client` the answer comes later.
        """
        words = [died_at, *_flat(commands)]
        return bool(self._exhume(keys=[self.keys.letter(letter_id)], args=words, client=client))

    def renew(self, holdings: Iterable[str], lease: float) -> int:
        """Lease the holdings for `lease` seconds from now; return how many had lost theirs."""
        words: list[Word] = [int(lease * 1000), *holdings]
        return cast("int", self._renew(keys=[self.keys.leases], args=words))

    def reached_for(self, pause: float) -> float:
        """Return the seconds since when any worker has called this at least every `pause` ones."""
        answer = self._reached(keys=[self.keys.reached], args=[int(pause * 1000)])
        return cast("int", answer) / 1000

    def expired(
        self, limit: int, forget_after: float, lease: float, queues: Iterable[str] = ()
    ) -> Iterator[tuple[str, bytes]]:
        """Yield holdings whose lease is over, each with an item; about `limit` of them at most.

        Those of `queues`, or of all. A holding that is empty `forget_after` seconds after its lease
        ended is forgotten. `lease` is the longest that anyone has.
        """
        words: list[Word] = [limit, int(forget_after * 1000), int(lease * 1000), *queues]
        found = self._expired(keys=[self.keys.leases], args=words)
        for holding, items in cast("list[Any]", found):
            for item in items:
                yield _text(holding), item

    def move_due(self, queue: str, limit: int = 100) -> int:
        """Put what is due into its queue, `limit` at most; return how many that were."""
        keys = [self.keys.delayed(queue), self.keys.queue(queue)]
        return cast("int", self._move_due(keys=keys, args=[limit]))

    def delayed_queues(self, queues: Collection[str] = ()) -> list[str]:
        """Return which of `queues`, or of all, may have something delayed."""
        known = sorted(map(_text, self.client.smembers(self.keys.delayed_queues)))
        return [it for it in known if not queues or it.partition(PRIORITY)[0] in queues]

    def held(self, holding: str) -> list[bytes]:
        """Return what is in a holding."""
        return cast("list[bytes]", self.client.lrange(holding, 0, -1))


def _flat(commands: Iterable[Command]) -> list[Word]:
    return [word for command in commands for word in (len(command), *command)]


def _part(name: str) -> str:
    """Return a name as it stands between the colons of a key."""
    return name.replace("%", "%25").replace(":", "%3A")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
