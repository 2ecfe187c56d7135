"""How a delivery can end other than well, as the commands that end it in one step.

`Custody.settle` runs them for the worker that has the delivery, `Broker.sweep` for one that is
gone.
"""

import json
from time import time
from traceback import format_exception
from typing import Any
from uuid import uuid4

from penstock.broker import Command, Keys, Word
from penstock.catalogue import BY_JOB
from penstock.envelope import Envelope, MalformedError
from penstock.records import State

# Deliveries that a job gets which is not in the catalogue, as on an app that only has `install`.
DELIVERIES = 3


def again(keys: Keys, source: str, item: bytes, worker: str, error: str) -> list[Command]:
    """Deliver the message again, first in line, or bury it when it was delivered too often.

    A job that takes its worker with it would otherwise do so for ever.
    """
    try:
        envelope = Envelope.decode(item).redelivered(worker, error)
    except MalformedError as malformed:
        return dead(keys, source, item, "undecodable", str(malformed), worker)
    declared = BY_JOB.get(envelope.job)
    if envelope.deliveries >= (declared.deliveries if declared else DELIVERIES):
        return dead(
            keys,
            source,
            envelope.encode(),
            "poison",
            f"was delivered {envelope.deliveries} times and never finished; last: {error}",
            worker,
        )
    return [("RPUSH", keys.queue(source), envelope.encode())]


def later(
    keys: Keys, source: str, item: bytes, worker: str, error: str, due: float
) -> list[Command]:
    """Try the job again at the time `due`, seconds since 1970."""
    envelope = Envelope.decode(item).retried(worker, error)
    update = {"id": envelope.job_id, "state": State.RETRY, "error": error, "retry_at": due}
    return [
        *_delay(keys, source, envelope, due),
        _update(keys, {**update, "fence": envelope.fence}),
    ]


def not_yet(keys: Keys, source: str, item: bytes, due: float) -> list[Command]:
    """Let a message that came before its time wait in the broker, and not in a worker's memory."""
    return _delay(keys, source, Envelope.decode(item).delayed(), due)


def _delay(keys: Keys, source: str, envelope: Envelope, due: float) -> list[Command]:
    return [
        ("SADD", keys.delayed_queues, source),
        ("ZADD", keys.delayed(source), int(due * 1000), envelope.encode()),
    ]


def told(keys: Keys, item: bytes, state: State) -> list[Command]:
    """Say in the job's record how it ended, where no run of it will."""
    envelope = Envelope.decode(item)
    return [_update(keys, {"id": envelope.job_id, "state": state, "fence": envelope.fence})]


def dead(
    keys: Keys,
    source: str,
    item: bytes,
    reason: str,
    error: str,
    worker: str,
    traceback: str = "",
    state: State = State.DEAD,
) -> list[Command]:
    """Put the message among the dead letters, with why, and say so in the job's record."""
    now = time()
    try:
        envelope = Envelope.decode(item)
        letter_id, job, fence = envelope.job_id or uuid4().hex, envelope.job, envelope.fence
        attempts = [*envelope.attempts]
        if reason != "poison":
            attempts.append({"at": now, "worker": worker, "error": error})
    except MalformedError:
        letter_id, job, fence, attempts = uuid4().hex, "", 0, []
    letter: dict[str, str | bytes | float] = {
        "job_id": letter_id,
        "job": job,
        "queue": source,
        "reason": reason,
        "error": error,
        "traceback": traceback,
        "attempts": json.dumps(attempts),
        "died_at": now,
        "message": item,
    }
    indexes = keys.letter_indexes(source, job, reason)
    spare_id = f"{letter_id}~{uuid4().hex[:8]}"
    bury: list[Word] = [keys.letter(letter_id), letter_id, keys.letter(spare_id), spare_id]
    bury += [now, len(indexes), *indexes]
    for name, value in letter.items():
        # An error's text may hold halves of characters, which no bytes stand for.
        bury += [name, value.encode(errors="replace") if isinstance(value, str) else value]
    commands: list[Command] = [
        ("BURY", *bury),
        ("SADD", keys.letter_groups, json.dumps([source, reason])),
    ]
    if job:
        update = {"id": letter_id, "state": state, "error": error, "fence": fence, "at": now}
        commands.append(_update(keys, {**update, "reason": reason}))
    return commands


def traceback_of(error: BaseException) -> str:
    """Return the traceback as Python prints it."""
    return "".join(format_exception(error))


def _update(keys: Keys, update: dict[str, Any]) -> Command:
    return ("RPUSH", keys.outbox, json.dumps(update))
