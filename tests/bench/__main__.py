"""The `./task bench` command: `./task bench -- queue`."""

import click
from bench.queue.command import queue


@click.group()
def main() -> None:
    """Measure Penstock beside others, on this machine."""


main.add_command(queue)

if __name__ == "__main__":
    main()
