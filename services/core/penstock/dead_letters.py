"""Dead letters: jobs that ended other than well, kept with the reason until someone looks at them.

`penstock.outcomes` writes a letter in the step that ends the delivery. Here it is read, and taken
away again: by a replay, which queues its message in the same step, by whoever discards it, or by
retention.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import inf, isnan
from time import time
from typing import Annotated, Any, NamedTuple, Self, cast

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError, create_model
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from penstock.broker import Broker, Command
from penstock.catalogue import BY_JOB
from penstock.contracts.base import Contract, shown
from penstock.envelope import JSON, Envelope, MalformedError
from penstock.records import State
from penstock.settings import Settings

# Letters that are read in one round trip and taken away in another; their messages may be large.
AT_ONCE = 100
# How often retention does so in one call, so that a housekeeper gets to its other work.
ROUNDS = 50
# Seconds in the units that an age may be given in.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class NotReplayableError(Exception):
    """A letter's message is nothing that a worker could run; the text says why."""


def _age(value: object) -> object:
    if not isinstance(value, str):
        return value
    number, unit = (value[:-1], value[-1]) if value[-1:] in UNITS else (value, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = -1
    if not 0 <= seconds < inf:
        raise ValueError("must be seconds, or a number with s, m, h or d behind it, such as 2h")
    return seconds


Age = Annotated[float, BeforeValidator(_age)]


class Filters(Contract):
    """Which letters are meant: those for which all holds that is given. Ages are seconds."""

    queue: str | None = None
    job: str | None = None
    reason: str | None = None
    older_than: Age | None = None
    newer_than: Age | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given, so that all letters are meant."""
        return all(getattr(self, name) is None for name in Filters.model_fields)

    def window(self) -> tuple[float, float]:
        """Return between which times, in seconds since 1970, such letters died."""
        now = time()
        since = -inf if self.newer_than is None else now - self.newer_than
        until = inf if self.older_than is None else now - self.older_than
        return since, until


ANY = Filters()


class Cursor(NamedTuple):
    """A place in a list of letters: behind the one that died then and has that id.

    It holds between which times letters are listed, so that those are the same on every page.
    """

    died_at: float
    id: str
    since: float
    until: float

    def encode(self) -> str:
        """Return the cursor as one word, which means nothing to whom it is given."""
        return urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, word: str) -> Self:
        """Return the cursor that was made a word; raises ValueError."""
        try:
            died_at, letter_id, since, until = json.loads(urlsafe_b64decode(f"{word}=="))
            times = [float(moment) for moment in (died_at, since, until)]
            if any(map(isnan, times)):
                raise ValueError
            return cls(times[0], str(letter_id), *times[1:])
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise ValueError("is not a cursor that came with a page") from None


class Attempt(BaseModel):
    """A run that did not end well; `at` is seconds since 1970."""

    at: float
    worker: str
    error: str


_attempts = TypeAdapter(list[Attempt])


class Summary(BaseModel, extra="forbid"):
    """A letter as it is listed.

    `id` is its job's, unless there was a letter of that id already. `job` is empty where the
    message cannot be read. `died_at` is seconds since 1970.
    """

    id: str
    job_id: str
    job: str
    queue: str
    reason: str
    error: str
    died_at: float


class Letter(Summary):
    """All that is known of a letter.

    `args` and `kwargs` are what the job was called with, or None, and then `unreadable` says why.
    `message` is what the queue held, with a \\x.. for each byte of it that is not text.
    """

    traceback: str
    attempts: list[Attempt]
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    unreadable: str | None
    message: str


@dataclass(frozen=True)
class Page:
    """A part of a list; `next` is where it goes on, `total` how many letters all of it has."""

    items: list[Summary]
    next: Cursor | None
    total: int


@dataclass
class Batch:
    """What became of many letters.

    `refused` are the ids of those that were left where they are, each with the reason. `next` is
    where to go on, or None when there are no more.
    """

    next: Cursor | None
    done: int = 0
    refused: dict[str, str] = field(default_factory=dict)


# A letter as the broker has it: all that it has, or what was asked for.
Fields = dict[str, bytes]
LISTED = tuple(Summary.model_fields)
ALL = (*LISTED, "traceback", "attempts", "message")
# What happens with a letter in the step that takes it away.
Then = Callable[[str, Fields], Iterable[Command]]


class DeadLetters:
    """The dead letters of a broker. Whatever is asked of them may raise RedisError."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.client = broker.client
        self.keys = broker.keys

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Return those of the broker that `settings` name; it is connected to when it is needed."""
        client = Redis.from_url(
            settings.redis("broker"),
            socket_connect_timeout=0.5,
            socket_timeout=5,
            retry=Retry(ExponentialBackoff(base=0.05, cap=0.2), 2),
            # What is typed into a terminal may have characters that no letter can have.
            encoding_errors="replace",
        )
        return cls(Broker(client))

    # Reading

    def page(self, filters: Filters = ANY, cursor: Cursor | None = None, limit: int = 50) -> Page:
        """Return `limit` letters, the newest first, beginning behind `cursor`.

        What a page costs grows neither with the number of letters nor with that of the pages before
        it. A letter that arrives meanwhile is newer than the first page, and moves no other.
        """
        cursor = cursor or Cursor(inf, "", *filters.window())
        ids, following = self._ids(filters, cursor, limit, newest_first=True)
        letters = self._read(ids, LISTED)
        return Page(
            [Summary.model_validate(_as_text(letter)) for letter in letters.values()],
            following,
            self._count(filters, cursor.since, cursor.until),
        )

    def count(self, filters: Filters = ANY) -> int:
        """Return how many letters there are."""
        return self._count(filters, *filters.window())

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many letters there are of each queue and, of those, of each reason."""
        members = cast("set[bytes]", self.client.smembers(self.keys.letter_groups))
        groups = sorted(json.loads(member) for member in members)
        with self.client.pipeline(transaction=False) as pipe:
            for queue, reason in groups:
                pipe.zcard(self.keys.letters(queue=queue, reason=reason))
            sizes = pipe.execute()
        counts: dict[str, dict[str, int]] = {}
        for (queue, reason), size in zip(groups, sizes, strict=True):
            if size:
                counts.setdefault(queue, {})[reason] = size
        return counts

    def show(self, letter_id: str) -> Letter | None:
        """Return all that is known of a letter, or None when it is not there."""
        letter = self._read([letter_id], ALL).get(letter_id)
        return _opened(letter) if letter else None

    # Taking away

    def replay(self, letter_id: str, kwargs: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Queue a letter's job again; None when the letter is not there, or not any more.

        It is done once, however often and by however many it is asked for. `kwargs` takes the place
        of the job's arguments; for a job of the catalogue it is {"job": what its contract wants}.
        Raises NotReplayableError, and ValidationError for `kwargs`. Returns the update of the job's
        record, which housekeeping brings there in a moment; see `Records.apply`.
        """
        letter = self._read([letter_id], ALL).get(letter_id)
        if letter is None:
            return None
        update, commands = self._requeue(letter, kwargs)
        return update if self._exhume(letter_id, letter, commands) else None

    def discard(self, letter_id: str) -> bool:
        """Take a letter away for good; False when it is not there."""
        letter = self._read([letter_id], LISTED).get(letter_id)
        return letter is not None and self._exhume(letter_id, letter, ())

    def replay_many(
        self, filters: Filters = ANY, cursor: Cursor | None = None, limit: int = 1000
    ) -> Batch:
        """Replay `limit` letters, the oldest first, beginning behind `cursor`.

        A job that dies again meanwhile is not replayed again. What cannot be replayed stays.
        """
        return self._take_batch(
            filters, cursor, limit, ALL, lambda _, letter: self._requeue(letter, None)[1]
        )

    def discard_many(
        self, filters: Filters = ANY, cursor: Cursor | None = None, limit: int = 1000
    ) -> Batch:
        """Discard `limit` letters, the oldest first, beginning behind `cursor`."""
        return self._take_batch(filters, cursor, limit, LISTED, lambda *_: ())

    # Retention

    def expire(self, ttl: float, most: float) -> bool:
        """Drop what is older than `ttl` seconds, and the oldest when there are more than `most`.

        It is now what the broker's clock says, or one machine whose clock is wrong would drop all.
        Many may do this at once. One call drops a few thousand at most; it returns whether there
        may be more to drop. `dropped` tells how many have been.
        """
        index = self.keys.letters()
        for _ in range(ROUNDS):
            # In one step, or what another one drops in between is made up for with newer letters.
            with self.client.pipeline() as pipe:
                pipe.zcard(index)
                pipe.zrange(index, 0, AT_ONCE - 1, withscores=True)
                pipe.time()
                size, oldest, (now, _) = pipe.execute()
            horizon = now - ttl
            causes = {
                letter_id.decode(): "age" if died_at < horizon else "count"
                for place, (letter_id, died_at) in enumerate(oldest)
                if died_at < horizon or place < size - most
            }
            self._take(causes, LISTED, partial(self._count_dropped, causes))
            if len(causes) < AT_ONCE:
                return False
        return True

    def _count_dropped(
        self, causes: dict[str, str], letter_id: str, letter: Fields
    ) -> list[Command]:
        what = f"{causes[letter_id]} {letter['reason'].decode()}"
        return [("HINCRBY", self.keys.letters_dropped, what, 1)]

    def dropped(self) -> dict[str, dict[str, int]]:
        """Return how many letters were ever dropped for their age or count, of each reason."""
        counts: dict[str, dict[str, int]] = {"age": {}, "count": {}}
        known = cast("dict[bytes, bytes]", self.client.hgetall(self.keys.letters_dropped))
        for what, number in known.items():
            cause, _, reason = what.decode().partition(" ")
            counts[cause][reason] = int(number)
        return counts

    # How it is done

    def _index(self, filters: Filters) -> str:
        return self.keys.letters(filters.queue, filters.job, filters.reason)

    def _count(self, filters: Filters, since: float, until: float) -> int:
        return self.client.zcount(self._index(filters), since, until)

    def _ids(
        self, filters: Filters, cursor: Cursor, limit: int, *, newest_first: bool
    ) -> tuple[Iterable[str], Cursor | None]:
        """Return `limit` ids behind the cursor, and where the list goes on."""
        behind = (cursor.died_at, cursor.id.encode(errors="replace"))
        if newest_first:
            ends = (min(cursor.until, cursor.died_at), cursor.since)
        else:
            ends = (max(cursor.since, cursor.died_at), cursor.until)
        # One to tell whether there are more, and one that the last page may have ended with.
        number = limit + 2
        while True:
            rows: Any = self.client.zrange(
                *(self._index(filters), *ends),
                desc=newest_first,
                byscore=True,
                withscores=True,
                offset=0,
                num=number,
            )
            places = [(died_at, letter_id) for letter_id, died_at in rows]
            further = [it for it in places if (it < behind if newest_first else it > behind)]
            if len(further) > limit or len(rows) < number:
                break
            # More than a page of them died in the same moment as the one that the cursor names.
            number *= 2
        ids = [letter_id.decode() for _, letter_id in further[:limit]]
        if len(further) <= limit:
            return ids, None
        return ids, cursor._replace(died_at=further[limit - 1][0], id=ids[-1])

    def _read(self, ids: Iterable[str], names: tuple[str, ...]) -> dict[str, Fields]:
        """Return the letters that are there, with the fields of these names."""
        ids = tuple(ids)
        with self.client.pipeline(transaction=False) as pipe:
            for letter_id in ids:
                pipe.hmget(self.keys.letter(letter_id), names)
            answers = pipe.execute()
        return {
            letter_id: dict(zip(names, answer, strict=True))
            for letter_id, answer in zip(ids, answers, strict=True)
            if None not in answer
        }

    def _take_batch(
        self,
        filters: Filters,
        cursor: Cursor | None,
        limit: int,
        names: tuple[str, ...],
        then: Then,
    ) -> Batch:
        batch = Batch(next=cursor or self._beginning(filters))
        while batch.next and limit > 0:
            ids, batch.next = self._ids(
                filters, batch.next, min(limit, AT_ONCE), newest_first=False
            )
            limit -= AT_ONCE
            done, refused = self._take(ids, names, then)
            batch.done += done
            batch.refused |= refused
        return batch

    def _beginning(self, filters: Filters) -> Cursor:
        """Return the place before the oldest; what dies later than the newest is not listed."""
        since, until = filters.window()
        newest: Any = self.client.zrange(self._index(filters), 0, 0, desc=True, withscores=True)
        return Cursor(-inf, "", since, min(until, newest[0][1]) if newest else until)

    def _take(
        self, ids: Iterable[str], names: tuple[str, ...], then: Then
    ) -> tuple[int, dict[str, str]]:
        """Take letters away; return how many were there, and why others were left."""
        refused = {}
        with self.client.pipeline(transaction=False) as pipe:
            for letter_id, letter in self._read(ids, names).items():
                try:
                    self._exhume(letter_id, letter, then(letter_id, letter), pipe)
                except NotReplayableError as error:
                    refused[letter_id] = str(error)
            return sum(pipe.execute()), refused

    def _exhume(
        self,
        letter_id: str,
        letter: Fields,
        commands: Iterable[Command],
        client: Redis | None = None,
    ) -> bool:
        queue, job, reason = (letter[name].decode() for name in ("queue", "job", "reason"))
        unlist = [
            ("ZREM", index, letter_id) for index in self.keys.letter_indexes(queue, job, reason)
        ]
        return self.broker.exhume(letter_id, letter["died_at"], [*commands, *unlist], client)

    def _requeue(
        self, letter: Fields, kwargs: dict[str, Any] | None
    ) -> tuple[dict[str, Any], list[Command]]:
        """Return what to say in the job's record, and how to say it and queue the message."""
        attempts = json.loads(letter["attempts"])
        try:
            envelope = Envelope.decode(letter["message"]).replayed(attempts)
            if not envelope.job or not envelope.job_id:
                raise MalformedError("it names no job, or has no id")
            if kwargs is not None:
                envelope = envelope.with_arguments(*_arguments(envelope, kwargs))
            elif envelope.content_type == JSON:
                envelope.body()
        except (MalformedError, RecursionError) as error:
            raise NotReplayableError(f"its message is malformed: {error}") from None
        queue = letter["queue"].decode()
        update = {
            "id": envelope.job_id,
            "state": State.PENDING,
            "fence": envelope.fence - 1,
            "job": envelope.job,
            "queue": queue,
            "queued_at": time(),
        }
        return update, [
            ("LPUSH", self.keys.queue(queue), envelope.encode()),
            ("RPUSH", self.keys.outbox, json.dumps(update)),
        ]


def _arguments(envelope: Envelope, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any], str]:
    """Return a job's new arguments, and what may be shown of them.

    Raises MalformedError, and ValidationError by the job's contract.
    """
    args, _, _ = envelope.body()
    declared = BY_JOB.get(envelope.job)
    if declared is None:
        return args, kwargs, shown(kwargs)
    model = create_model("Arguments", __base__=Contract, job=declared.contract)
    arguments = model.model_validate(kwargs)
    return [], arguments.model_dump(mode="json"), shown(dict(arguments))


def _opened(letter: Fields) -> Letter:
    """Return a letter for reading, whatever its message is."""
    args, kwargs, unreadable = None, None, None
    try:
        args, kwargs, _ = Envelope.decode(letter["message"]).body()
        # Not every number of Python's is one that another program reads.
        json.dumps([args, kwargs], allow_nan=False)
    except (MalformedError, ValueError, RecursionError) as error:
        args, kwargs, unreadable = None, None, str(error)
    try:
        attempts = _attempts.validate_json(letter["attempts"])
    except ValidationError:
        # Whoever can publish a message can also write a history into it.
        attempts = []
    return Letter.model_validate(
        {
            **_as_text(letter),
            "attempts": attempts,
            "args": args,
            "kwargs": kwargs,
            "unreadable": unreadable,
        }
    )


def _as_text(letter: Fields) -> dict[str, str]:
    return {name: value.decode(errors="backslashreplace") for name, value in letter.items()}
