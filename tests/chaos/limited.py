"""A limit on memory: `python -m chaos.limited BYTES -m MODULE ...` runs the module with it."""

import os
import resource
import sys


def main() -> None:
    """Set the limit, which children inherit, and become the other program."""
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])  # noqa: S606


if __name__ == "__main__":
    main()
