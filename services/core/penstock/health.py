"""A process shows that its main loop turns by touching a file; a probe looks at the file's age.

The probe talks to nothing and imports nothing of the app, so it costs next to nothing and does not
fail with the broker.
"""

import os
from pathlib import Path
from time import time

INTERVAL = 2.0
# Seconds without a beat after which a process is taken to hang.
STALE = 30.0


def heartbeat_path() -> Path:
    """Return the file of this process; PENSTOCK_HEARTBEAT, read without the other settings."""
    return Path(os.environ.get("PENSTOCK_HEARTBEAT") or "/tmp/penstock-heartbeat")  # noqa: S108


def beat() -> None:
    """Show that the main loop turns."""
    heartbeat_path().touch()


def end() -> None:
    """Show that the process no longer works, as opposed to hangs."""
    heartbeat_path().unlink(missing_ok=True)


def check() -> str | None:
    """Return what is wrong with this process's heartbeat, or None."""
    path = heartbeat_path()
    try:
        age = time() - path.stat().st_mtime
    except FileNotFoundError:
        return f"{path} does not exist: the process has not begun to work, or has ended"
    return f"{path} is {age:.0f} s old: the process hangs" if age > STALE else None
