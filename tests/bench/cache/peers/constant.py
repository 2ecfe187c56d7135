"""Constant bytes without a framework: what BENCH_CONSTANT holds, an answer of Penstock's."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_answer = json.loads(Path(os.environ["BENCH_CONSTANT"]).read_text())
_body = _answer["body"].encode()
_headers: list[tuple[str, str]] = [(name, value) for name, value in _answer["headers"]]
_raw = [(name.lower().encode(), value.encode()) for name, value in _headers]


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Answer by WSGI."""
    start_response("200 OK", _headers)
    return [_body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answer by ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": _raw})
    await send({"type": "http.response.body", "body": _body})
