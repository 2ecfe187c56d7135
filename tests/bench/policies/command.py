"""Eviction policies compared: this project's and a real Redis server's, below Belady's optimum."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import click
from bench.policies import report
from bench.policies.replay import belady, ours
from bench.policies.replay_redis import POLICIES, VALUE_BYTES, Outcome, Replay, replay
from bench.policies.traces import LOADS, POPULATION, Trace
from rich.console import Console

from penstock.cache.policies import Policy
from penstock_dev.redis_server import find_redis_server

DOCS = Path(__file__).parents[3] / "docs"
OURS: dict[str, Policy] = {"LRU": "lru", "LFU": "lfu", "random": "random"}

console = Console(stderr=True)


@dataclass(frozen=True)
class Extent:
    """How much is replayed: reads of each trace, sizes in entries, reads a second from Redis."""

    length: int
    sizes: tuple[int, ...]
    pace: float
    # How many Redis servers run at once.
    together: int


FULL = Extent(25_000, (250, 500, 1_000), 250, 48)
QUICK = Extent(1_000, (50, 100), 1_000, 16)


@click.command()
@click.option("--quick", is_flag=True, help="Short traces at a higher pace, to see that it works.")
@click.option(
    "--to",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=DOCS,
    help="The folder of cache-policies.md and cache-policies.svg; docs if it is not given.",
)
def policies(quick: bool, to: Path) -> None:
    """Replay traces through eviction policies and write a table and a plot of their hit ratios."""
    extent = QUICK if quick else FULL
    page = to / "cache-policies.md"
    try:
        report.check(page)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    jobs = [(load, entries) for load in LOADS for entries in extent.sizes]
    traces = {(load.name, entries): load.trace(entries, extent.length) for load, entries in jobs}
    redis = _from_redis(traces, extent)
    rows = []
    for (load, entries), trace in traces.items():
        ratios = {report.CEILING: belady(trace, entries)}
        ratios |= {name: ours(policy, trace, entries) for name, policy in OURS.items()}
        ratios |= {policy: redis[load, entries, policy].ratio for policy in POLICIES}
        rows.append(report.Row(load, entries, ratios))
    report.plot(rows, to / "cache-policies.svg")
    report.put(_how(extent, redis) + "\n" + report.table(rows), page)
    console.print(f"written: {page}, {to / 'cache-policies.svg'}")


def _from_redis(
    traces: dict[tuple[str, int], Trace], extent: Extent
) -> dict[tuple[str, int, str], Outcome]:
    """Replay every trace under every policy, as many at once as the extent says."""
    waiting = [
        ((load, entries, policy), Replay(policy, entries, trace))
        for (load, entries), trace in traces.items()
        for policy in POLICIES
    ]
    outcomes: dict[tuple[str, int, str], Outcome] = {}
    folder = Path(mkdtemp(prefix="penstock-policies-"))
    for start in range(0, len(waiting), extent.together):
        names, replays = zip(*waiting[start : start + extent.together], strict=True)
        console.print(
            f"in Redis: {start + 1} to {start + len(names)} of {len(waiting)} servers, "
            f"about {extent.length / extent.pace:.0f} s"
        )
        outcomes |= dict(zip(names, replay(replays, extent.pace, folder), strict=True))
    shutil.rmtree(folder)
    return outcomes


def _how(extent: Extent, redis: dict[tuple[str, int, str], Outcome]) -> str:
    """Say what the figures are figures of."""
    version = subprocess.run(
        [find_redis_server(), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    off = max(abs(it.held / entries - 1) for (_, entries, _), it in redis.items())
    sizes = ", ".join(
        f"{min(limits) / 2**20:.2f} MiB for {entries:,}"
        for entries in extent.sizes
        if (limits := [it.maxmemory for (_, size, _), it in redis.items() if size == entries])
    )
    return (
        f"Reads answered from the cache, in percent of {extent.length:,} reads that begin with "
        f"an empty cache; {POPULATION:,} things are read, values of {VALUE_BYTES:,} bytes. Redis "
        f"{version.removeprefix('v=')} at {extent.pace:,.0f} reads a second; `maxmemory` of "
        f"{sizes} entries; while it was full it held that many within {100 * off:.1f} %.\n"
    )
