"""The API key: everything but the probes needs it, as `Authorization: Bearer KEY`."""

from hashlib import sha256
from hmac import compare_digest

from flask import Flask, Response, request

from penstock.settings import Settings, stop
from penstock_web.problems import problem

OPEN = frozenset({"/livez", "/readyz"})


def required_key(settings: Settings) -> str:
    """Return the API key; ends the process with exit code 2 where none is set."""
    if settings.api_key is None:
        stop("PENSTOCK_API_KEY is not set: set it to a long random text")
    return settings.api_key.get_secret_value()


def init_app(app: Flask, key: str) -> None:
    """Refuse every request that does not carry `key`."""
    wanted = sha256(key.encode()).digest()

    @app.before_request
    def _check() -> Response | None:
        if request.path in OPEN:
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # Digests are of one length, so neither length nor content of a wrong key shows in the time.
        known = compare_digest(sha256(given.strip().encode()).digest(), wanted)
        if known and scheme.lower() == "bearer":
            return None
        return problem(
            401,
            "this needs the API key, as the header `Authorization: Bearer KEY`",
            headers={"WWW-Authenticate": 'Bearer realm="penstock"'},
        )
