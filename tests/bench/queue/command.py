"""Penstock beside plain Celery and other task queues, interleaved in one run."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import click
from bench import report
from bench.processes import BenchError, end_in_order
from bench.queue.ground import Ground
from bench.queue.parts import FULL, PARTS, PATIENCE, QUICK, Extent, Part
from bench.queue.peers.roster import BASELINE, PEERS
from rich.console import Console

OUTCOME = Path(__file__).parents[3] / "var" / "bench-queue.json"
FRAME = report.Frame(
    peers=[peer.name for peer in PEERS],
    baseline=BASELINE.name,
    compared=("jobs/s", "enqueue /s"),
    packages=["celery", "kombu", "redis", "dramatiq", "rq", "huey", "taskiq", "taskiq-redis"],
    patience=PATIENCE,
)

console = Console(stderr=True)


@click.command()
@click.option("--quick", is_flag=True, help="One short round, to see that it works.")
@click.option("--rounds", type=click.IntRange(1), help="How often speed is measured.")
@click.option("--peer", "names", multiple=True, type=click.Choice([it.name for it in PEERS]))
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)))
def queue(quick: bool, rounds: int | None, names: tuple[str, ...], parts: tuple[str, ...]) -> None:
    """Measure task queues: speed, latency, memory, recovery, what is lost and what is doubled."""
    end_in_order()
    extent = QUICK if quick else FULL
    extent = replace(extent, rounds=rounds or extent.rounds)
    folder = Path(mkdtemp(prefix="penstock-bench-"))
    measured: report.Rounds = {}
    try:
        with ExitStack() as stack:
            grounds = [
                stack.enter_context(Ground(peer, folder))
                for peer in PEERS
                if not names or peer.name in names
            ]
            server = str(grounds[0].broker.info("server")["redis_version"])
            for number in range(extent.rounds):
                for name in parts or PARTS:
                    if number and PARTS[name].once:
                        continue
                    console.print(f"round {number + 1} of {extent.rounds}: {name}")
                    _measure(PARTS[name], grounds, extent, measured)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    report.show(measured, FRAME)
    report.write(measured, FRAME, server, OUTCOME)
    shutil.rmtree(folder)
    console.print(f"figures: {OUTCOME.relative_to(Path.cwd())}")


def _measure(part: Part, grounds: list[Ground], extent: Extent, measured: report.Rounds) -> None:
    concerned = [ground for ground in grounds if part.only in (None, ground.peer)]
    with ThreadPoolExecutor(len(grounds) if part.together else 1) as pool:
        measures = [pool.submit(part.measure, ground, extent) for ground in concerned]
        for ground, measure in zip(concerned, measures, strict=True):
            report.add(measured, ground.peer.name, measure.result())
