"""Messages that are none."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from chaos.jobs import QUEUE
from chaos.scenario import scenario
from chaos.stage import Stage

Change = Callable[[dict[str, Any]], object]

# What stands on the queue instead of a message.
NO_MESSAGES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "no text": b"\xff\xfe\x00\x80",
    "half a message": b'{"body": "W10=", "headers": {"task": "wo',
    "null": b"null",
    "a number": b"42",
    "a list": b"[]",
    "a text": b'"work"',
    "an empty object": b"{}",
    "nested too deep": b"[" * 200_000,
}


def _body(content: object) -> str:
    return b64encode(json.dumps(content).encode()).decode()


# What is changed in a good message.
CHANGES: dict[str, Change] = {
    "no properties": lambda it: it.pop("properties"),
    "properties are null": lambda it: it.update(properties=None),
    "no delivery_info": lambda it: it["properties"].pop("delivery_info"),
    "no headers": lambda it: it.pop("headers"),
    "headers are a list": lambda it: it.update(headers=[]),
    "no body": lambda it: it.pop("body"),
    "the body is a number": lambda it: it.update(body=5),
    "the body is empty": lambda it: it.update(body=""),
    "the body is not Base64": lambda it: it.update(body="a"),
    "the body is not JSON": lambda it: it.update(body=b64encode(b"hello").decode()),
    "the body is an object": lambda it: it.update(body=_body({"a": 1})),
    "the body is too short": lambda it: it.update(body=_body([[]])),
    "the arguments are a number": lambda it: it.update(body=_body([5, {}, {}])),
    "the keywords are a list": lambda it: it.update(body=_body([[], [1], {}])),
    "pickled": lambda it: it.update({"content-type": "application/x-python-serialize"}),
    "an unknown content type": lambda it: it.update({"content-type": "text/klingon"}),
    "no task": lambda it: it["headers"].pop("task"),
    "an unknown task": lambda it: it["headers"].update(task="nobody.knows"),
    "the task is a list": lambda it: it["headers"].update(task=["work"]),
    "the task is null": lambda it: it["headers"].update(task=None),
    "the task is half a character": lambda it: it["headers"].update(task="\ud800"),
    "no id": lambda it: it["headers"].pop("id"),
    "the id is an object": lambda it: it["headers"].update(id={"a": 1}),
    "the keywords have half a character": lambda it: it.update(body=_body([[], {"\ud800": 1}, {}])),
    "no keyword is known": lambda it: it.update(body=_body([[], {"colour": "red"}, {}])),
    "the options are a number": lambda it: it.update(body=_body([[], {"seconds": 0}, 5])),
    "the eta is no time": lambda it: it["headers"].update(eta="tomorrow"),
    "expires is no time": lambda it: it["headers"].update(expires="never"),
    "the time limit is a text": lambda it: it["headers"].update(timelimit="short"),
}


@scenario()
def malformed(stage: Stage) -> None:
    """malformed messages of more than 20 shapes pushed straight onto the queue - a dead letter
    each, no worker restarted; the other jobs go on."""
    (worker,) = stage.work("one")
    shapes = dict(NO_MESSAGES)
    for name, change in CHANGES.items():
        message = _message()
        change(message)
        shapes[name] = json.dumps(message).encode()
    for item in shapes.values():
        stage.broker.client.lpush(QUEUE, item)
        stage.publish("work", {"seconds": 0.01})
    stage.until_ended(60)
    letters = [letter["message"] for letter in stage.letters()]
    missing = [
        name for name, item in shapes.items() if item.decode(errors="replace") not in letters
    ]
    connected = worker.group.log.read_text().count("Connected to redis")
    stage.figures["shapes"] = len(shapes)
    stage.figures["letters"] = len(letters)
    stage.must(not missing, f"no dead letter: {', '.join(missing)}")
    stage.must(len(letters) == len(shapes), f"{len(letters)} dead letters for {len(shapes)} shapes")
    stage.must(worker.starts == 1 and not worker.group.deserted, "the worker was restarted")
    stage.must(connected == 1, f"the worker connected {connected} times")


def _message() -> dict[str, Any]:
    """Return a good message, as Celery writes it."""
    job_id = str(uuid4())
    return {
        "body": _body([[], {"seconds": 0.01}, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "work", "id": job_id, "retries": 0, "eta": None},
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_tag": str(uuid4()),
            "body_encoding": "base64",
        },
    }
