"""The `./task bench` command: `./task bench -- queue`, cache or workers."""

import click
from bench.cache.command import cache, workers
from bench.queue.command import queue


@click.group()
def main() -> None:
    """Measure Penstock beside others, on this machine."""


for command in (queue, cache, workers):
    main.add_command(command)

if __name__ == "__main__":
    main()
