"""The key of a request: two requests have the same only where the same answer is right for both."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote_plus

import msgpack

# Registers how Flask decodes what is not UTF-8, which is used here for the names in a query.
import werkzeug.urls  # noqa: F401

# What WSGI calls the headers to which it does not give the prefix of one.
PLAIN = {"content-length": "CONTENT_LENGTH", "content-type": "CONTENT_TYPE"}
# Letters of the path that can be read in a key, and by which what is under a path can be dropped.
PATH = 120


def of(environ: Mapping[str, Any]) -> str:
    """Return the key of a GET request, apart from the headers that its answer depends on.

    HEAD has the same, since its answer is the same without the body.
    """
    return address(
        environ["wsgi.url_scheme"],
        environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}",
        environ.get("SCRIPT_NAME", ""),
        environ.get("PATH_INFO", ""),
        environ.get("QUERY_STRING", ""),
    )


@lru_cache(maxsize=4096)
def address(scheme: str, host: str, script: str, path: str, query: str) -> str:
    """Return the key of an address, as WSGI has its parts.

    Parameters of different names may stand in any order; those of one name are a list.
    """
    parts = ["GET", scheme, host.lower(), script, path, *_sorted(query)]
    return f"{readable(script + path)}:{_digest(parts)}"


def variant(
    key: str, environ: Mapping[str, Any], names: Iterable[str], user: str | None = None
) -> str:
    """Return the key of the answer to a request whose headers of these names matter.

    `user` is whom the answer is for, where that matters as well.
    """
    values = [(name, environ.get(variable(name))) for name in sorted(names)]
    return f"{key}~{_digest([values, user])}"


def readable(path: str) -> str:
    """Return the part of a key that shows the path, which WSGI has in Latin-1."""
    return quote(path, safe="/", encoding="latin-1", errors="replace")[:PATH]


def _sorted(query: str) -> list[str]:
    pieces = [piece for piece in query.split("&") if piece]
    return sorted(pieces, key=_name) if len(pieces) > 1 else pieces


def _name(piece: str) -> str:
    name = piece.partition("=")[0]
    return unquote_plus(name.encode("latin-1").decode(errors="replace"), errors=ERRORS)


ERRORS = "werkzeug.url_quote"


# Clients make up names of headers; those that all send are few.
@lru_cache(maxsize=256)
def variable(name: str) -> str:
    """Return what WSGI calls a header."""
    return PLAIN.get(name.lower()) or f"HTTP_{name.upper().replace('-', '_')}"


def _digest(parts: Any) -> str:
    return sha256(msgpack.packb(parts, unicode_errors="surrogatepass")).hexdigest()
