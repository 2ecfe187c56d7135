"""Kills process groups when the harness is gone: its standard input is a pipe that ends with it."""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Read "+GROUP" and "-GROUP" until the pipe ends, then kill the groups that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
