"""The API key: everything but the probes needs it, as `Authorization: Bearer KEY`.

The operator's key may do everything that the API key may, and what only an operator may.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from hashlib import blake2s
from hmac import compare_digest
from typing import ParamSpec

from flask import Flask, Response, current_app, request
from flask.typing import ResponseReturnValue

from penstock.settings import Settings, stop
from penstock_web.problems import problem

OPEN = frozenset({"/livez", "/readyz"})
NAME = "penstock-keys"

View = ParamSpec("View")


def required_key(settings: Settings) -> str:
    """Return the API key; ends the process with exit code 2 where none is set."""
    if settings.api_key is None:
        stop("PENSTOCK_API_KEY is not set: set it to a long random text")
    return settings.api_key.get_secret_value()


class Keys:
    """Who may come in: whoever has the API key, and the operator, where that is another."""

    def __init__(self, key: str, operator_key: str | None) -> None:
        self._key = _digest(key)
        self._operator = _digest(operator_key or key)

    def knows(self, authorization: str) -> bool:
        """Return whether the header Authorization carries one of the keys."""
        digest, bearer = _given(authorization)
        # Both are compared, so that the time does not tell which of them it is.
        known = compare_digest(digest, self._key) | compare_digest(digest, self._operator)
        return known and bearer

    def knows_operator(self, authorization: str) -> bool:
        """Return whether the header Authorization carries the operator's key."""
        digest, bearer = _given(authorization)
        return compare_digest(digest, self._operator) and bearer


def init_app(app: Flask, keys: Keys) -> None:
    """Refuse every request that does not carry a key."""
    app.extensions[NAME] = keys

    @app.before_request
    def _check() -> Response | None:
        if request.path in OPEN or keys.knows(request.headers.get("Authorization", "")):
            return None
        return problem(
            401,
            "this needs the API key, as the header `Authorization: Bearer KEY`",
            headers={"WWW-Authenticate": 'Bearer realm="penstock"'},
        )


def operator_only(
    view: Callable[View, ResponseReturnValue],
) -> Callable[View, ResponseReturnValue]:
    """Refuse a request that does not carry the operator's key."""

    @wraps(view)
    def checked(*args: View.args, **kwargs: View.kwargs) -> ResponseReturnValue:
        keys: Keys = current_app.extensions[NAME]
        if keys.knows_operator(request.headers.get("Authorization", "")):
            return view(*args, **kwargs)
        return problem(403, "this needs the operator's key")

    return checked


def _digest(key: str) -> bytes:
    # Digests are of one length, so neither length nor content of a wrong key shows in the time.
    # BLAKE2 is Python's own: OpenSSL takes longer to find its SHA-256 than either to compute it.
    return blake2s(key.encode(errors="surrogateescape")).digest()


# Who asks asks again. A header is found by its hash alone, so the time does not tell how much of a
# wrong key is right.
@lru_cache(maxsize=64)
def _given(authorization: str) -> tuple[bytes, bool]:
    scheme, _, key = authorization.partition(" ")
    return _digest(key.strip()), scheme.lower() == "bearer"
