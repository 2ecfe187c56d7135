"""Gunicorn's log in the form of the application's, with a line for each request."""

import json
import os
import sys
from datetime import UTC, datetime
from functools import lru_cache
from time import localtime, strftime, time
from typing import Any

from gunicorn import glogging  # type: ignore[import-untyped]

from penstock import log
from penstock.settings import get_settings


class Logger(glogging.Logger):  # type: ignore[misc]
    """Says what Gunicorn says as the application would, and writes access lines to standard output.

    Those are put together here: the record that `logging` makes of each takes a third of the time
    of a hit of the cache.
    """

    def setup(self, cfg: Any) -> None:
        """Take over Gunicorn's configuration."""
        super().setup(cfg)
        settings = get_settings()
        log.configure(settings)
        self.error_log.handlers = []
        self.error_log.propagate = True
        self._line = json_line if settings.log_format == "json" else combined_line

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Write the line of a request, or leave it to Gunicorn where it is to go elsewhere."""
        if self.cfg.accesslog != "-":
            super().access(resp, req, environ, request_time)
            return
        seconds = request_time.seconds + request_time.microseconds / 1e6
        line = self._line(resp, environ, seconds)
        try:
            # In one piece, so that lines of several processes and threads do not mix.
            os.write(sys.stdout.fileno(), line.encode(errors="replace"))
        except OSError:
            # A request does not fail because its line cannot be written.
            return


def json_line(resp: Any, environ: dict[str, Any], seconds: float) -> str:
    """Return the line of a request, with what took `seconds`, as a JSON object."""
    fields = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["RAW_URI"],
        "status": _status(resp),
        "bytes": resp.sent,
        "seconds": round(seconds, 6),
        "cache": next((value for name, value in resp.headers if name.lower() == "x-cache"), None),
        "client": environ.get("REMOTE_ADDR"),
        "forwarded_for": environ.get("HTTP_X_FORWARDED_FOR"),
        "user_agent": environ.get("HTTP_USER_AGENT"),
        "event": "request",
        "logger": "access",
        "level": "info",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}) + "\n"


def combined_line(resp: Any, environ: dict[str, Any], seconds: float) -> str:
    """Return the line of a request in Apache's combined format, where `seconds` have no place."""
    request = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
    return (
        f"{environ.get('REMOTE_ADDR') or '-'} - - {_moment(int(time()))}"
        f' "{_escaped(request)}" {_status(resp)} {resp.sent or "-"}'
        f' "{_escaped(environ.get("HTTP_REFERER", "-"))}"'
        f' "{_escaped(environ.get("HTTP_USER_AGENT", "-"))}"\n'
    )


def _status(resp: Any) -> int:
    # A number from an ASGI application, the whole status line from a WSGI application.
    return int(str(resp.status)[:3])


@lru_cache(maxsize=1)
def _moment(second: int) -> str:
    return strftime("[%d/%b/%Y:%H:%M:%S %z]", localtime(second))


def _escaped(text: str) -> str:
    return text.replace('"', '\\"')
