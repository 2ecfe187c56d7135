"""Dead letters as a worker leaves them, to be looked at."""

import json
from base64 import b64encode
from typing import Any

from messages import encoded

from penstock import outcomes
from penstock.broker import Broker


def job(name: str = "payment.process", job_id: str = "j-1", body: Any = None, **more: Any) -> bytes:
    """Return the message of a job, with other headers in `more`."""
    content = [[], {"job": {}}, {}] if body is None else body
    return encoded(
        headers={"id": job_id, "task": name, "retries": 3, "eta": None, **more},
        body=b64encode(json.dumps(content).encode()).decode(),
    )


def bury(
    broker: Broker,
    item: bytes,
    queue: str = "payment",
    reason: str = "permanent error",
    error: str = "ValueError: it broke",
    traceback: str = "",
) -> None:
    """End a delivery of the message badly."""
    broker.client.lpush("held", item)
    commands = outcomes.dead(broker.keys, queue, item, reason, error, "worker-1", traceback)
    assert broker.settle("held", item, commands)
