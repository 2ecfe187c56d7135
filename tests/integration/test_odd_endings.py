"""However a job ends and whatever a message is, it has an end, and its worker goes on."""

import json
import os
from base64 import b64encode
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from processes import LIMIT, Running, environment, run
from redis import Redis

from integration.odd_tasks import ENDINGS
from penstock import install
from penstock.broker import Broker
from penstock.records import Record, Records, State
from penstock.settings import Settings

TESTS = Path(__file__).parents[1]
QUEUE = "odd"


class Worker(Running):
    """A worker of odd_tasks.py with a pool of `pool`."""

    def __init__(self, folder: Path, settings: Settings, pool: str) -> None:
        self.heartbeat = heartbeat = folder / "heartbeat"
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        command = ["celery", "--app", "integration.odd_tasks", "worker", "--queues", QUEUE]
        super().__init__(
            *command,
            *("--pool", pool, "--concurrency", "2", "--hostname", f"{pool}@%h"),
            env={**environment(settings, heartbeat=heartbeat), "PYTHONPATH": path},
            log=folder / "worker.log",
        )
        self.until(heartbeat.exists, "the worker is ready")


@pytest.fixture
def records(settings: Settings) -> Records:
    return Records.connect(settings)


@pytest.fixture
def broker(settings: Settings) -> Broker:
    return Broker(Redis.from_url(settings.broker_url))


@pytest.fixture(params=["prefork", "threads", "solo", "gevent"])
def worker(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path, settings, request.param) as worker:
        yield worker


def ended(records: Records, job_id: str) -> Record | None:
    record = records.read(job_id)
    return record if record and record.state.final else None


# What JSON does not know is shown as a text.
SUCCESSES = {"ignored", "an object", "no number", "half a character", "a circle", "bytes"}
# What ends the process that runs it; in a pool within the worker it counts as such.
LOST = {"interrupted", "exit", "no memory"}


def test_a_job_has_an_end_whatever_its_handler_raises_or_returns(
    worker: Worker, settings: Settings, records: Records, broker: Broker
) -> None:
    app = install(Celery("client", set_as_current=False), settings)
    app.conf.update(broker_url=settings.broker_url)

    def send(name: str, *args: str) -> str:
        return str(app.send_task(name, args=args, task_id=str(uuid4()), queue=QUEUE).id)

    jobs = {ending: send("odd.end", ending) for ending in ENDINGS}
    jobs |= {name: send(f"odd.{name}") for name in ("retry", "replace")}
    found = {
        name: worker.until(partial(ended, records, job_id), f"{name} has ended")
        for name, job_id in jobs.items()
    }

    said = {name: (record.state, record.reason) for name, record in found.items() if record}
    dead = {name for name in ENDINGS if name not in SUCCESSES}
    assert said == {
        **dict.fromkeys({*SUCCESSES, "replace"}, (State.SUCCESS, None)),
        **dict.fromkeys(dead - LOST, (State.DEAD, "permanent error")),
        **dict.fromkeys(LOST, (State.DEAD, "poison")),
        "retry": (State.DEAD, "retries used up"),
    }
    letters = broker.keys.letters()
    # A run says that the job is dead before its delivery is ended.
    worker.until(lambda: broker.client.zcard(letters) == len(dead) + 1, "each has its letter")
    # It still takes as many jobs at once as it did.
    assert worker.process.poll() is None
    after = [send("odd.end", "an object") for _ in range(4)]
    for job_id in after:
        worker.until(partial(ended, records, job_id), "the worker goes on")
    assert worker.end() == 0


def test_a_revoked_job_is_cancelled_and_a_worker_that_consumes_no_more_is_not_well(
    settings: Settings, records: Records, tmp_path: Path
) -> None:
    app = install(Celery("client", set_as_current=False), settings)
    app.conf.update(broker_url=settings.broker_url)
    job_id = str(uuid4())
    with Worker(tmp_path, settings, "threads") as worker:
        worker.until(lambda: app.control.ping(timeout=1), "the worker answers")
        app.control.revoke(job_id, reply=True, timeout=2)
        app.send_task("odd.end", args=["an object"], task_id=job_id, queue=QUEUE)
        worker.until(partial(ended, records, job_id), "the job has ended")
        record = records.read(job_id)
        assert record
        assert (record.state, record.attempts) == (State.CANCELLED, 0)

        env = environment(settings, heartbeat=worker.heartbeat)
        assert run("penstock", "health", "--ready", env=env).returncode == 0
        # It stays connected, and answers to whoever asks.
        app.control.cancel_consumer(QUEUE, reply=True, timeout=2)
        said = worker.until(lambda: run("penstock", "health", env=env).stderr, "it is deaf")
        assert "was not asked for a job" in said
        assert app.control.ping(timeout=5)


ODD: list[Any] = [
    None, True, -1, 10**30, 1e308, float("nan"), float("-inf"), "", "x", "\ud800", "a:b\n*?[]\0",
    [], [1], [None, None], ["a", "b"], {}, {"a": 1}, {"\ud800": 1}, "2026-13-45", "A" * 100_000,
]  # fmt: skip


def _places(it: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    keys = it if isinstance(it, dict) else range(len(it)) if isinstance(it, list) else ()
    for key in keys:
        yield from _places(it[key], (*place, key))


def _with(it: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = deepcopy(it)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def _message(body: Any) -> dict[str, Any]:
    """Return a message as Celery publishes it, with everything that it can have."""
    job_id = str(uuid4())
    return {
        "body": b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": "odd.end",
            "id": job_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [100, 90],
            "root_id": job_id,
            "parent_id": None,
            "argsrepr": "",
            "kwargsrepr": "",
            "origin": "me",
            "ignore_result": None,
            "stamps": {},
            "stamped_headers": None,
            "replaced_task_nesting": 0,
            "compression": None,
            "penstock": {"fence": 1, "deliveries": 0, "attempts": []},
        },
        "properties": {
            "correlation_id": job_id,
            "reply_to": "r",
            "delivery_mode": 2,
            "priority": 0,
            "delivery_tag": job_id,
            "body_encoding": "base64",
            "expiration": "3600000",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }


BODY = [["an object"], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def _messages() -> dict[bytes, str]:
    """Return a message with each odd value in each place, and the id of its job if it has one."""
    changed = [
        _with(_message(BODY), place, value) for place in _places(_message(BODY)) for value in ODD
    ]
    changed += [_message(_with(BODY, place, value)) for place in _places(BODY) for value in ODD]
    items = {}
    for message in changed:
        headers = message.get("headers") if isinstance(message, dict) else None
        job_id = headers.get("id") if isinstance(headers, dict) else None
        items[json.dumps(message).encode()] = job_id if isinstance(job_id, str) else ""
    return items


def test_a_message_with_any_value_in_any_place_is_run_or_a_dead_letter(
    settings: Settings, records: Records, broker: Broker, tmp_path: Path
) -> None:
    items = _messages()
    keys, client = broker.keys, broker.client

    def left() -> list[Any]:
        holdings: Any = client.zrange(keys.leases, 0, -1)
        held = sum(client.llen(holding) for holding in holdings)
        return [client.llen(QUEUE), held, client.llen(keys.outbox)]

    # In a pool of threads an error that nobody expected is heard of by nobody.
    with Worker(tmp_path, settings, "threads") as worker:
        client.lpush(QUEUE, *items)
        worker.until(lambda: not any(left()), "every message has an end", 2 * LIMIT)
        assert worker.end() == 0
        assert "Trying to re-establish" not in worker.said

    ids: Any = client.zrange(keys.letters(), 0, -1)
    letters: list[Any] = [client.hget(keys.letter(it.decode()), "message") for it in ids]
    assert len(letters) == len(set(letters))
    done = set(items) - set(letters)
    assert 100 < len(done) < len(items) - 500
    not_run = [
        item for item in done if (it := records.read(items[item])) is None or it.state != "SUCCESS"
    ]
    assert not_run == []
