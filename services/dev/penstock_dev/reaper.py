"""Ends process groups when the process that started them is gone, however it went.

The reaper reads group ids from its standard input, a pipe that only its parent holds. The pipe
ends when the parent closes it, and also when the parent is killed, which nobody can handle
otherwise. It imports nothing of the project and is in a session of its own, so that neither a
Ctrl-C nor a broken service reaches it.
"""

import os
import signal
import sys
from contextlib import suppress
from time import monotonic, sleep

# Seconds that a group gets between being told to stop and being killed.
GRACE = 10.0


def main() -> None:
    """Read groups until the pipe ends, then end them: the first, which serves the others, last."""
    first, *others = [int(line) for line in sys.stdin] or [0]
    end(others)
    end([first] if first else [])


def end(groups: list[int], grace: float = GRACE) -> None:
    """Tell the leader of each group to stop, and kill what has not stopped after `grace` seconds.

    The leader alone is told: it ends the others when they have finished what they are at.
    """
    for group in groups:
        with suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)
    deadline = monotonic() + grace
    while monotonic() < deadline and any(_signal(group, 0) for group in groups):
        sleep(0.05)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
