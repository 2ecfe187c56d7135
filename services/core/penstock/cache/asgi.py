"""A Flask app on an ASGI server: what is at hand is answered in the event loop.

The rest goes to threads. A hit then costs neither a thread nor what a WSGI server does for one.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask

from penstock.cache.answers import matches
from penstock.cache.layer import Environ, Layer, StartResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# How WSGI names the headers that it does not give the prefix of a header.
PLAIN = {b"content-length": "CONTENT_LENGTH", b"content-type": "CONTENT_TYPE"}


class AsgiLayer:
    """An ASGI application: a Flask app whose `Cache` was set up, with `threads` for its views."""

    def __init__(self, app: Flask, layer: Layer, threads: int) -> None:
        self._layer = layer
        self._rest = WSGIMiddleware(self._in_thread, workers=threads)  # type: ignore[arg-type]
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            environ = environ_of(scope)
            if "HTTP_RANGE" not in environ and self._layer.may(environ):
                answer, outcome = self._layer.at_hand(environ)
                if answer is not None:
                    marks = _marks(answer.age(), outcome)
                    wanted = environ.get("HTTP_IF_NONE_MATCH")
                    if wanted is not None and answer.code < 300 and matches(wanted, answer.etag):
                        status, headers, body = 304, answer.raw_304 + marks, b""
                    else:
                        status, headers = answer.code, answer.raw + marks
                        body = answer.body if scope["method"] == "GET" else b""
                    await send(
                        {"type": "http.response.start", "status": status, "headers": headers}
                    )
                    await send({"type": "http.response.body", "body": body})
                    return
        await self._rest(scope, receive, send)  # type: ignore[arg-type]

    def _in_thread(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # Its input ends with the body, so that a body without a Content-Length can be read.
        environ["wsgi.input_terminated"] = True
        return self._app.wsgi_app(environ, start_response)


def environ_of(scope: Scope) -> Environ:
    """Return a request as WSGI has it, as far as its key and whoever guards the cache look at it.

    It must be what a2wsgi makes of the same scope, or a kept answer would not be found again.
    """
    path = scope["path"]
    if root := scope.get("root_path", ""):
        path = path.removeprefix(root)
    name, port = scope.get("server") or ("localhost", 80)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _wsgi(root),
        "PATH_INFO": _wsgi(path),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": name,
        "SERVER_PORT": str(port or 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
    }
    for raw, value in scope["headers"]:
        header = _variable(raw)
        text = value.decode("latin-1")
        environ[header] = f"{environ[header]},{text}" if header in environ else text
    return environ


# Within a second there is one for almost all that is sent.
@lru_cache(maxsize=1024)
def _marks(age: int, outcome: str) -> list[tuple[bytes, bytes]]:
    return [(b"age", b"%d" % age), (b"x-cache", outcome.encode())]


def _wsgi(text: str) -> str:
    return text if text.isascii() else text.encode().decode("latin-1")


# Clients make up names of headers; those that all send are few.
@lru_cache(maxsize=256)
def _variable(name: bytes) -> str:
    return PLAIN.get(name) or f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}"
