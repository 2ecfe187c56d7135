"""A Flask app on an ASGI server: what is at hand is answered in the event loop.

The rest goes to threads. A hit then costs neither a thread nor what a WSGI server does for one.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask

from penstock.cache import keys
from penstock.cache.answers import matches
from penstock.cache.layer import Environ, Layer, StartResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class AsgiLayer:
    """An ASGI application: a Flask app whose `Cache` was set up, with `threads` for its views."""

    def __init__(self, app: Flask, layer: Layer, threads: int) -> None:
        self._layer = layer
        self._rest = WSGIMiddleware(self._in_thread, workers=threads)  # type: ignore[arg-type]
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            asked = AsgiRequest(scope)
            if asked.plain and self._layer.may(asked):
                answer, outcome = self._layer.at_hand(asked)
                if answer is not None:
                    marks = _marks(answer.age(), outcome)
                    wanted = asked.header("if-none-match")
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


class AsgiRequest:
    """A Request of an ASGI server, whose headers are read as they are asked for.

    `plain` is False for one that is left to a thread: it wants a part, or has a header twice.
    """

    __slots__ = ("_headers", "_scope", "plain")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self.plain = len(self._headers) == len(scope["headers"]) and b"range" not in self._headers

    @property
    def method(self) -> str:
        """See Request."""
        method: str = self._scope["method"]
        return method

    @property
    def path(self) -> str:
        """See Request."""
        path: str = self._scope["path"]
        root: str = self._scope.get("root_path", "")
        return root + path.removeprefix(root)

    def header(self, name: str) -> str | None:
        """See Request."""
        value = self._headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def key(self) -> str:
        """See Request; that of `environ`, which is not made for it."""
        scope = self._scope
        return _key(
            scope.get("scheme", "http"),
            self._headers.get(b"host") or ":".join(_server(scope)).encode(),
            scope.get("root_path", ""),
            scope["path"],
            scope["query_string"],
        )

    def environ(self) -> Environ:
        """See Request.

        It must be what a2wsgi makes of the same scope, or a kept answer would not be found again.
        """
        scope = self._scope
        script, path = _script_and_path(scope.get("root_path", ""), scope["path"])
        name, port = _server(scope)
        environ: Environ = {
            "REQUEST_METHOD": scope["method"],
            "SCRIPT_NAME": script,
            "PATH_INFO": path,
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
            "SERVER_NAME": name,
            "SERVER_PORT": port,
            "wsgi.url_scheme": scope.get("scheme", "http"),
        }
        for raw, value in scope["headers"]:
            header = keys.variable(raw.decode("latin-1"))
            text = value.decode("latin-1")
            environ[header] = f"{environ[header]},{text}" if header in environ else text
        return environ


# Within a second there is one for almost all that is sent.
@lru_cache(maxsize=1024)
def _marks(age: int, outcome: str) -> list[tuple[bytes, bytes]]:
    return [(b"age", b"%d" % age), (b"x-cache", outcome.encode())]


# What was asked lately is asked again: its parts are not decoded once more.
@lru_cache(maxsize=4096)
def _key(scheme: str, host: bytes, root: str, path: str, query: bytes) -> str:
    script, path = _script_and_path(root, path)
    return keys.address(scheme, host.decode("latin-1"), script, path, query.decode("latin-1"))


def _script_and_path(root: str, path: str) -> tuple[str, str]:
    return _wsgi(root), _wsgi(path.removeprefix(root))


def _server(scope: Scope) -> tuple[str, str]:
    name, port = scope.get("server") or ("localhost", 80)
    return name, str(port or 0)


def _wsgi(text: str) -> str:
    return text if text.isascii() else text.encode().decode("latin-1")
