"""A process shows how it is by writing a file; a probe reads the file and nothing else.

The probe talks to nobody and imports nothing of the app, so it costs next to nothing, and an outage
of the broker does not end workers that would be needed after it.
"""

import json
import os
from pathlib import Path
from time import time

# Seconds between two turns of the main loop that are noted.
INTERVAL = 0.2
# Seconds after which a main loop that does not turn hangs, a worker that could take jobs and does
# not is deaf, and a lease that is not renewed is as good as over.
STALE = 30.0
DEAF = 15.0
UNLEASED = 15.0


def heartbeat_path() -> Path:
    """Return the file of this process: PENSTOCK_HEARTBEAT, read without the other settings."""
    return Path(os.environ.get("PENSTOCK_HEARTBEAT") or "/tmp/penstock-heartbeat")  # noqa: S108


def beat(*, polled: float | None = None, renewed: float | None = None) -> None:
    """Show that the main loop turns.

    `polled` and `renewed` are the seconds since the broker was last asked for a job, 0 while none
    could be taken, and since it last confirmed the lease.
    """
    path = heartbeat_path()
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps({"at": time(), "polled": polled, "renewed": renewed}))
    fresh.replace(path)


def end() -> None:
    """Show that the process no longer works, as opposed to hangs."""
    heartbeat_path().unlink(missing_ok=True)


def check(*, ready: bool = False) -> str | None:
    """Return what is wrong with this process, or None.

    Alive is a process whose main loop turns, and which asks the broker for jobs while it can reach
    it. `ready` asks for more: that it reaches the broker now.
    """
    path = heartbeat_path()
    try:
        said = json.loads(path.read_text())
    except FileNotFoundError:
        return f"{path} does not exist: the process has not begun to work, or has ended"
    age = time() - said["at"]
    if age > STALE:
        return f"{path} is {age:.0f} s old: the process hangs"
    polled, renewed = said["polled"], said["renewed"]
    reached = renewed is None or renewed + age < UNLEASED
    if reached and polled is not None and polled + age > DEAF:
        return f"the broker answers, but was not asked for a job for {polled + age:.0f} s"
    if ready and not reached:
        return f"the broker has not answered for {renewed + age:.0f} s"
    return None
