"""Finished answers: which may be kept, and what a client gets of one."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from time import time
from typing import Any

from penstock.cache.entries import Entry

Headers = list[tuple[str, str]]

# Of one connection or one moment, and not of the answer (RFC 9110, section 7.6.1).
NOT_KEPT = frozenset(
    {
        "age",
        "connection",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-cache",
    }
)
# What goes with a 304 (RFC 9110, section 15.4.5).
WITH_304 = frozenset({"cache-control", "content-location", "etag", "expires", "vary"})


@dataclass(slots=True, eq=False)
class Answer:
    """A kept answer, ready to be sent."""

    status: str
    headers: Headers
    headers_304: Headers
    body: bytes
    etag: str
    made: float
    # The same as an ASGI server wants it.
    code: int
    raw: list[tuple[bytes, bytes]]
    raw_304: list[tuple[bytes, bytes]]

    def age(self) -> int:
        """Seconds since it was computed."""
        return max(0, int(time() - self.made))


def answer_of(entry: Entry) -> Answer | None:
    """Return the answer that an entry holds; None where it holds none."""
    if entry.prepared is None:
        try:
            entry.prepared = _prepare(entry)
        except (TypeError, ValueError, KeyError, AttributeError):
            return None
    return entry.prepared if isinstance(entry.prepared, Answer) else None


def _prepare(entry: Entry) -> Answer:
    status, pairs, body = entry.value
    if not isinstance(body, bytes):
        raise TypeError
    headers = [(str(name), str(value)) for name, value in pairs]
    headers_304 = [(name, value) for name, value in headers if name.lower() in WITH_304]
    [etag] = [value for name, value in headers if name.lower() == "etag"]
    return Answer(
        status=f"{status} {_phrase(status)}",
        headers=headers,
        headers_304=headers_304,
        body=body,
        etag=etag,
        made=entry.made,
        code=int(status),
        raw=_raw(headers),
        raw_304=_raw(headers_304),
    )


def payload(status: int, headers: Headers, body: bytes, max_age: int) -> list[Any]:
    """Return what is kept of a finished answer.

    It gets a strong ETag and a Cache-Control where it has none: a client may keep it for `max_age`
    seconds, and asks each time whether it still holds where that is 0.
    """
    kept = [(name, value) for name, value in headers if name.lower() not in NOT_KEPT]
    names = {name.lower() for name, _ in kept}
    if "etag" not in names:
        kept.append(("ETag", f'"{sha256(body).hexdigest()[:32]}"'))
    if "cache-control" not in names:
        kept.append(("Cache-Control", f"max-age={max_age}" if max_age else "no-cache"))
    return [status, [list(pair) for pair in kept], body]


def why_not(status: int, headers: Headers, *, not_found: bool) -> str | None:
    """Return why an answer must not be kept, or None where it may.

    `not_found` tells whether a 404 may.
    """
    if not (200 <= status < 300 or (status == 404 and not_found)) or status == 206:
        return f"its status is {status}"
    if "set-cookie" in {name.lower() for name, _ in headers}:
        return "it sets a cookie"
    if "*" in vary(headers):
        return "it depends on what no header tells"
    for name in ("private", "no-store", "no-cache"):
        if name in directives(headers):
            return f"its Cache-Control has {name}"
    if allowed(headers) == 0:
        return "its Cache-Control allows no time"
    return None


def directives(headers: Headers) -> dict[str, str]:
    """Return the directives of Cache-Control with their values, which may be empty."""
    found = {}
    for part in _listed(headers, "cache-control"):
        name, _, value = part.partition("=")
        found[name.strip().lower()] = value.strip().strip('"')
    return found


def allowed(headers: Headers) -> int | None:
    """Return for how many seconds the answer says that it may be kept, if it says so."""
    said = directives(headers)
    text = said.get("s-maxage", said.get("max-age"))
    if text is None:
        return None
    return int(text) if text.isdecimal() else 0


def vary(headers: Headers) -> frozenset[str]:
    """Return the names of the request's headers that the answer says it depends on."""
    return frozenset(name.lower() for name in _listed(headers, "vary"))


def matches(if_none_match: str, etag: str) -> bool:
    """Return whether the client has the answer already (RFC 9110, section 13.1.2)."""
    if if_none_match.strip() == "*":
        return True
    wanted = etag.removeprefix("W/")
    return any(tag.strip().removeprefix("W/") == wanted for tag in if_none_match.split(","))


def _listed(headers: Headers, wanted: str) -> Iterable[str]:
    for name, value in headers:
        if name.lower() == wanted:
            yield from (part.strip() for part in value.split(",") if part.strip())


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
