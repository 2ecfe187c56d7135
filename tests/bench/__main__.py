"""The `./task bench` command: `./task bench -- queue`, cache, workers or footprint."""

import click
from bench.cache.command import cache, workers
from bench.footprint.command import footprint
from bench.queue.command import queue


@click.group()
def main() -> None:
    """Measure Penstock beside others, on this machine."""


for command in (queue, cache, workers, footprint):
    main.add_command(command)

if __name__ == "__main__":
    main()
