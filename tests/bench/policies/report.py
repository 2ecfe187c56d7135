"""The hit ratios as a table and as a plot."""

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

BEGIN, END = "<!-- figures: written by ./task cache:policies -->\n", "<!-- end of figures -->\n"

CEILING = "optimum"
# Each policy's colour and line: one colour for a policy, dashed where Redis does it.
STYLES = {
    CEILING: ("#888888", "-"),
    "LRU": ("#1f77b4", "-"),
    "LFU": ("#d62728", "-"),
    "random": ("#2ca02c", "-"),
    "allkeys-lru": ("#1f77b4", "--"),
    "allkeys-lfu": ("#d62728", "--"),
    "allkeys-random": ("#2ca02c", "--"),
    "volatile-ttl": ("#9467bd", "--"),
}


@dataclass(frozen=True)
class Row:
    """A kind of traffic on a cache of one size: the hit ratio of each policy, by its name."""

    load: str
    entries: int
    ratios: dict[str, float]


def table(rows: list[Row]) -> str:
    """Return the hit ratios in percent as a Markdown table; the best of those possible is bold."""
    lines = [
        f"| reads | entries | {' | '.join(STYLES)} |",
        f"|---|{'---:|' * (1 + len(STYLES))}",
    ]
    for row in rows:
        best = max(ratio for name, ratio in row.ratios.items() if name != CEILING)
        cells = (
            f"**{100 * ratio:.1f}**" if ratio == best else f"{100 * ratio:.1f}"
            for ratio in (row.ratios[name] for name in STYLES)
        )
        lines.append(f"| {row.load} | {row.entries:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[Row], path: Path) -> None:
    """Write a small plot for each kind of traffic, as SVG that the same figures give again."""
    with mpl.rc_context(
        {
            "svg.hashsalt": "penstock",
            "svg.fonttype": "none",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 9,
        }
    ):
        loads = [(load, list(of)) for load, of in groupby(rows, key=lambda row: row.load)]
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        grid = figure.subplots(2, -(-len(loads) // 2), sharey=True, squeeze=False).flat
        for axes, (load, of) in zip(grid, loads, strict=False):
            entries = [row.entries for row in of]
            for name, (colour, line) in STYLES.items():
                ratios = [100 * row.ratios[name] for row in of]
                axes.plot(entries, ratios, line, color=colour, label=name)
            axes.set_title(load)
            axes.set_xscale("log", base=2)
            axes.set_xticks(entries, labels=[f"{count:,}" for count in entries])
            axes.minorticks_off()
            axes.set_ylim(0, 100)
            axes.grid(color="#dddddd")
        figure.supxlabel("entries that fit")
        figure.supylabel("reads answered from the cache, %")
        handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(STYLES))
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def check(page: Path) -> None:
    """Raise ValueError when the page has no place for figures."""
    if not _place().search(page.read_text()):
        raise ValueError(f"{page} has no place for figures: the lines {BEGIN!r} and {END!r}")


def put(figures: str, page: Path) -> None:
    """Put the figures into the page, between the marks that stand there for them."""
    check(page)
    page.write_text(_place().sub(lambda _: BEGIN + figures + END, page.read_text()))


def _place() -> re.Pattern[str]:
    return re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
