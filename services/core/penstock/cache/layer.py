"""Around a Flask app: answers what is at hand before the app hears of it, keeps what it says."""

import sys
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Protocol

from penstock.cache import keys
from penstock.cache.answers import Answer, Headers, answer_of, matches
from penstock.cache.backends import Backend
from penstock.cache.exchanges import NAME, Exchange, variation

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class Request(Protocol):
    """A request that may be answered before the app has seen it, as a guard looks at it."""

    @property
    def method(self) -> str:
        """GET or HEAD."""

    @property
    def path(self) -> str:
        """The path, decoded, with that of the application."""

    def header(self, name: str) -> str | None:
        """Return the value of a header, whose name is given in lower case; None without one."""

    def key(self) -> str:
        """Return its key; see `keys.of`."""

    def environ(self) -> Environ:
        """Return it as WSGI has it."""


# May a request be answered before the app has seen it?
Guard = Callable[[Request], bool]

# Headers that ask for something else than the whole answer.
CONDITIONS = (
    "HTTP_IF_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_RANGE",
    "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_RANGE",
)


class Layer:
    """A WSGI application: the app with the cache before it."""

    def __init__(self, app: WsgiApp, backend: Backend, guard: Guard | None) -> None:
        self.app = app
        self.backend = backend
        self.guard = guard

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return self.app(environ, start_response)
        aside = "HTTP_RANGE" in environ
        asked = WsgiRequest(environ)
        if not aside and self.may(asked):
            answer, outcome = self.at_hand(asked)
            if answer is not None:
                return send(answer, outcome, environ, start_response)
        return self._through(
            Exchange(self.backend, environ, replay=self._replay, aside=aside),
            environ,
            start_response,
        )

    def may(self, asked: Request) -> bool:
        """Return whether a request may be answered before the app has seen it."""
        return self.guard is not None and self.guard(asked)

    def at_hand(self, asked: Request) -> tuple[Answer | None, str]:
        """Return the answer that this process has, and whether it is a hit or stale."""
        tier = self.backend.tier
        key = asked.key()
        entry = tier.get(key)
        if entry is not None and (varies := variation(entry)) is not None:
            names, of_user = varies
            # Whom a request comes from is found out by the app.
            entry = None if of_user else tier.get(keys.variant(key, asked.environ(), names))
        if entry is None or (answer := answer_of(entry)) is None:
            return None, ""
        outcome = entry.state()
        if outcome == "old":
            return None, ""
        if outcome == "stale":
            self.backend.refresh(entry.label, entry, lambda: self._replay(asked.environ()))
        event = "hits" if outcome == "hit" else "stale"
        self.backend.numbers.count(entry.label, event, "process", entry.cost)
        return answer, outcome

    def _through(
        self, exchange: Exchange, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        environ[NAME] = exchange
        said: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            if exchange.rule is None:
                return start_response(status, headers, exc_info)
            said[:] = [(status, headers)]
            return _nothing_written

        try:
            parts = self.app(environ, start)
        except Exception:
            answer = exchange.fail()
            if answer is None:
                raise
            return send(answer, exchange.outcome, environ, start_response)
        except BaseException:
            exchange.fail()
            raise
        if not said:
            return parts
        [(status, headers)] = said
        return _finish(exchange, status, headers, parts, environ, start_response)

    def _replay(self, environ: Environ) -> None:
        """Have the app answer a request once more, for nobody but the cache."""
        again: Environ = {
            name: value
            for name, value in environ.items()
            if isinstance(value, str) and name not in CONDITIONS
        }
        again.update(
            {
                "REQUEST_METHOD": "GET",
                "CONTENT_LENGTH": "0",
                "wsgi.version": (1, 0),
                "wsgi.input": BytesIO(),
                "wsgi.errors": sys.stderr,
                "wsgi.multithread": True,
                "wsgi.multiprocess": True,
                "wsgi.run_once": False,
            }
        )
        exchange = Exchange(self.backend, again, replay=self._replay, anew=True)
        parts = self._through(exchange, again, lambda *_: _nothing_written)
        _close(parts)


class WsgiRequest:
    """A Request of a WSGI server."""

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    @property
    def method(self) -> str:
        """See Request."""
        method: str = self._environ["REQUEST_METHOD"]
        return method

    @property
    def path(self) -> str:
        """See Request."""
        raw: str = self._environ.get("SCRIPT_NAME", "") + self._environ.get("PATH_INFO", "")
        return raw.encode("latin-1").decode(errors="replace")

    def header(self, name: str) -> str | None:
        """See Request."""
        return self._environ.get(keys.variable(name))

    def key(self) -> str:
        """See Request."""
        return keys.of(self._environ)

    def environ(self) -> Environ:
        """See Request."""
        return self._environ


def _finish(
    exchange: Exchange,
    status: str,
    headers: Headers,
    parts: Iterable[bytes],
    environ: Environ,
    start_response: StartResponse,
) -> Iterable[bytes]:
    if exchange.found is None and _streamed(exchange, status, headers):
        answer = exchange.finish(int(status[:3]), headers, None)
        if answer is not None:
            _close(parts)
            return send(answer, exchange.outcome, environ, start_response)
        start_response(status, _marked(headers, exchange.outcome))
        return parts
    try:
        body = b"".join(parts)
    except BaseException:
        exchange.fail()
        raise
    finally:
        _close(parts)
    answer = exchange.finish(int(status[:3]), headers, body)
    if answer is not None:
        return send(answer, exchange.outcome, environ, start_response)
    start_response(status, _marked(headers, exchange.outcome))
    return [body]


def _close(parts: Iterable[bytes]) -> None:
    close = getattr(parts, "close", None)
    if close is not None:
        close()


def _streamed(exchange: Exchange, status: str, headers: Headers) -> bool:
    has_length = any(name.lower() == "content-length" for name, _ in headers)
    return exchange.streamed or not (has_length or status.startswith("204"))


def send(
    answer: Answer, outcome: str, environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    """Send a kept answer: all of it, its headers, or that the client has it already."""
    extra = [("Age", str(answer.age())), ("X-Cache", outcome)]
    wanted = environ.get("HTTP_IF_NONE_MATCH")
    if wanted is not None and answer.code < 300 and matches(wanted, answer.etag):
        start_response("304 NOT MODIFIED", answer.headers_304 + extra)
        return []
    start_response(answer.status, answer.headers + extra)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


def _marked(headers: Headers, outcome: str) -> Headers:
    return [*headers, ("X-Cache", outcome)]


def _nothing_written(_: bytes) -> None:
    raise AssertionError("a cached view wrote by the old interface of WSGI")
