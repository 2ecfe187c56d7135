"""Print which sources of its packages a service's processes import: `python imports.py web`.

The build of an image compiles those. A container cannot write bytecode, so what has none is
compiled at each start; a third of what packages bring is never imported.
"""

import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import source_from_cache
from pathlib import Path
from pkgutil import walk_packages

# What names in strings ask for once the work begins; of a package, each of its modules.
WEB = ("gunicorn.app.wsgiapp", "gunicorn.workers.gasgi", "gunicorn.instrument.statsd")
CELERY = (
    "billiard.popen_fork",
    "billiard.sharedctypes",
    "billiard.synchronize",
    "celery.__main__",
    "celery.app",
    "celery.apps",
    "celery.backends.redis",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.events",
    "celery.loaders",
    "celery.utils.static",
    "celery.worker",
    "kombu.transport.redis",
)
BY_NAME = {"web": WEB, "flower": (*CELERY, "tornado.platform.asyncio")}

# An engine imports its driver when it is made, which needs no server.
os.environ |= {"PENSTOCK_API_KEY": "none", "PENSTOCK_DATABASE_URL": "postgresql://none"}


def below(name: str) -> list[str]:
    """Return the names of the modules in a package, of which a plain module has none."""
    found = walk_packages(getattr(import_module(name), "__path__", ()), f"{name}.")
    return [module.name for module in found if not module.name.endswith("__main__")]


service = sys.argv[1]
for name in (*BY_NAME.get(service, CELERY), f"penstock_{service}"):
    for module in below(name):
        import_module(module)
for module in below("penstock"):
    # Not every service reads the database, or files from S3.
    with suppress(ModuleNotFoundError):
        import_module(module)
# Python has just written their bytecode. The modules at hand now are fewer: some ended in an error
# that was expected, and others have put something else into their own place.
for cached in sorted(Path(sys.prefix).rglob("*.pyc")):
    print(source_from_cache(cached))
