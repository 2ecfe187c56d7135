"""Cached reads beside constant bytes, other caches and files, interleaved in one run."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import click
from bench import report
from bench.cache import load, parts
from bench.cache.ground import Ground
from bench.cache.peers.roster import CONSTANT, NGINX, PEERS, STAMPEDED, WORKER_CLASSES, Peer
from bench.cache.stampede import stampede
from bench.processes import BenchError, end_in_order
from rich.console import Console

VAR = Path(__file__).parents[3] / "var"
PACKAGES = [
    "cashews",
    "dogpile-cache",
    "fastapi",
    "fastapi-cache2",
    "flask",
    "flask-caching",
    "gevent",
    "gunicorn",
    "redis",
    "uvicorn",
]

console = Console(stderr=True)


@click.command()
@click.option("--quick", is_flag=True, help="One short round, to see that it works.")
@click.option("--rounds", type=click.IntRange(1), help="How often everything is measured.")
@click.option("--peer", "names", multiple=True, type=click.Choice([it.name for it in PEERS]))
def cache(quick: bool, rounds: int | None, names: tuple[str, ...]) -> None:
    """Measure hits, 304s and misses of a list of 50 articles, and stampedes."""
    peers = [peer for peer in PEERS if not names or peer.name in names]
    if NGINX in peers and not shutil.which("nginx"):
        peers.remove(NGINX)
        console.print("[bold]NOT MEASURED: nginx is not on PATH (Debian: nginx-light)[/bold]")
    extent = _extent(quick, rounds)
    with _figures("cache", peers, CONSTANT.name) as (ground, measured):
        parts.keep_answer(ground)
        _rounds(peers, extent.rounds, measured, lambda it: parts.reads(ground, it, extent))
    peers = [peer for peer in STAMPEDED if not names or peer.name in names]
    if peers:
        with _figures("stampede", peers, peers[0].name) as (ground, measured):
            _rounds(peers, min(extent.rounds, 3), measured, lambda it: stampede(ground, it))


@click.command()
@click.option("--quick", is_flag=True, help="One short round, to see that it works.")
@click.option("--rounds", type=click.IntRange(1), help="How often everything is measured.")
def workers(quick: bool, rounds: int | None) -> None:
    """Measure the application on Gunicorn's worker classes, also with idle connections open."""
    extent = _extent(quick, rounds)
    with _figures("workers", WORKER_CLASSES, WORKER_CLASSES[0].name) as (ground, measured):
        _rounds(
            WORKER_CLASSES,
            extent.rounds,
            measured,
            lambda it: parts.classes(ground, it, extent),
        )


def _extent(quick: bool, rounds: int | None) -> parts.Extent:
    extent = parts.QUICK if quick else parts.FULL
    return replace(extent, rounds=rounds or extent.rounds)


def _rounds(
    peers: Sequence[Peer],
    rounds: int,
    measured: report.Rounds,
    measure: Callable[[Peer], report.Figures],
) -> None:
    for number in range(rounds):
        for peer in peers:
            console.print(f"round {number + 1} of {rounds}: {peer.name}")
            report.add(measured, peer.name, measure(peer))


@contextmanager
def _figures(
    name: str, peers: Sequence[Peer], baseline: str
) -> Iterator[tuple[Ground, report.Rounds]]:
    """Yield where to measure, and what to add the figures to; then show and write them."""
    frame = report.Frame(
        peers=[peer.name for peer in peers],
        baseline=baseline,
        compared=("/s", "/s, 1,000 idle", "us/hit", "us/miss"),
        packages=PACKAGES,
        patience=0,
    )
    end_in_order()
    folder = Path(mkdtemp(prefix="penstock-bench-"))
    measured: report.Rounds = {}
    try:
        load.require()
        with Ground(folder) as ground:
            server = str(ground.redis.info("server")["redis_version"])
            yield ground, measured
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted: what had been measured is shown and not kept")
        report.show(measured, frame)
        sys.exit(130)
    report.show(measured, frame)
    outcome = VAR / f"bench-{name}.json"
    report.write(measured, frame, server, outcome)
    shutil.rmtree(folder)
    console.print(f"figures: {outcome.relative_to(Path.cwd())}")
