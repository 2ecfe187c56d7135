"""Messages as Celery publishes them (protocol 2), to be changed and put on a queue."""

import base64
import json
from typing import Any


def message(**changes: Any) -> dict[str, Any]:
    body = base64.b64encode(json.dumps([[], {"job": {}}, {}]).encode()).decode()
    return {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"id": "j-1", "task": "email.send", "retries": 0, "eta": None},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "t-1",
            "delivery_info": {"exchange": "", "routing_key": "email"},
        },
        **changes,
    }


def encoded(**changes: Any) -> bytes:
    return json.dumps(message(**changes)).encode()
