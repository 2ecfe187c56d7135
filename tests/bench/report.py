"""What was measured, as one table and as a file."""

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

Figures = dict[str, float | None]
# Of each peer, of each figure: one value for each round; None where it took too long.
Rounds = dict[str, dict[str, list[float | None]]]


@dataclass(frozen=True)
class Frame:
    """What the figures stand in: the peers in order, and which one others are compared with.

    `compared` are the ends of the names of figures of which only the ratio to the baseline's says
    much on another machine. `patience` is after how many seconds something came too late.
    """

    peers: list[str]
    baseline: str
    compared: tuple[str, ...]
    packages: list[str]
    patience: float


def add(rounds: Rounds, peer: str, figures: Figures) -> None:
    """Add a round's figures of a peer."""
    for name, value in figures.items():
        rounds.setdefault(peer, {}).setdefault(name, []).append(value)


def write(rounds: Rounds, frame: Frame, server: str, path: Path) -> None:
    """Write medians, extremes, ratios and the rounds themselves as JSON."""
    report = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "redis": server},
        "packages": {package: version(package) for package in frame.packages},
        "late_after_s": frame.patience,
        "peers": {
            peer: {
                name: {
                    **dict(zip(("median", "min", "max"), _spread(values), strict=True)),
                    "ratio": _ratio(rounds, frame, peer, name),
                    "rounds": values,
                }
                for name, values in figures.items()
            }
            for peer, figures in rounds.items()
        },
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def show(rounds: Rounds, frame: Frame) -> None:
    """Print the table: a row for each figure, a column for each peer."""
    peers = [peer for peer in frame.peers if peer in rounds]
    table = Table(r"median, \[min-max], ratio", *peers, show_lines=True)
    for name in dict.fromkeys(name for figures in rounds.values() for name in figures):
        table.add_row(name, *(_cell(rounds, frame, peer, name) for peer in peers))
    console = Console()
    console.width = max(console.width, 30 + 16 * len(peers))
    console.print(table)


def _cell(rounds: Rounds, frame: Frame, peer: str, name: str) -> str:
    values = rounds[peer].get(name)
    if values is None:
        return ""
    middle, low, high = (_text(value, frame) for value in _spread(values))
    lines = [middle] if low == high else [middle, rf"\[{low}-{high}]"]
    if (ratio := _ratio(rounds, frame, peer, name)) is not None:
        lines.append(f"{ratio:.2f} x")
    return "\n".join(lines)


def _spread(values: list[float | None]) -> tuple[float | None, float | None, float | None]:
    known = [inf if value is None else value for value in values]
    of = median(known), min(known), max(known)
    return tuple(None if value == inf else value for value in of)  # type: ignore[return-value]


def _ratio(rounds: Rounds, frame: Frame, peer: str, name: str) -> float | None:
    base = rounds.get(frame.baseline, {}).get(name)
    if base is None or not name.endswith(frame.compared):
        return None
    # Within a round, since what else the machine does changes from one to the next.
    pairs = zip(rounds[peer][name], base, strict=True)
    ratios = [mine / its for mine, its in pairs if mine and its]
    return median(ratios) if ratios else None


def _text(value: float | None, frame: Frame) -> str:
    if value is None:
        return f"> {frame.patience:.0f} s"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
