"""The table that is printed, and the figures that are written down."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.scenario import Scenario


@dataclass(frozen=True)
class Result:
    """How a scenario went with one pool."""

    scenario: Scenario
    pool: str
    figures: dict[str, Any]
    breaches: list[str]
    seconds: float

    @property
    def verdict(self) -> str:
        """One word."""
        return "BREACH" if self.breaches else "holds"


COLUMNS = {"fault": 40, "must hold": 36, "pool": 7, "figures": 46, "": 6}


def table(results: list[Result]) -> str:
    """Return a table for people, with the breaches below it."""
    rule = "-+-".join("-" * width for width in COLUMNS.values())
    lines = [_line([[name] for name in COLUMNS]), rule]
    last = ""
    for result in results:
        first = result.scenario.name != last
        last = result.scenario.name
        row = [
            result.scenario.fault if first else "",
            result.scenario.must_hold if first else "",
            result.pool,
            ", ".join(f"{name} {_figure(value)}" for name, value in result.figures.items()),
            result.verdict,
        ]
        widths = COLUMNS.values()
        lines.append(_line([textwrap.wrap(*it) for it in zip(row, widths, strict=True)]))
        lines.append(rule)
    for result in results:
        lines += [f"{result.scenario.name}, {result.pool}: {it}" for it in result.breaches]
    return "\n".join(lines)


def _line(cells: list[list[str]]) -> str:
    height = max(map(len, cells))
    padded = [cell + [""] * (height - len(cell)) for cell in cells]
    rows = [
        [f"{text:{width}}" for text, width in zip(row, COLUMNS.values(), strict=True)]
        for row in zip(*padded, strict=True)
    ]
    return "\n".join(" | ".join(row).rstrip() for row in rows)


def _figure(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {it}" for name, it in value.items()) + ")"
    if isinstance(value, list):
        return " / ".join(map(str, value))
    return str(value)


def write(results: list[Result], path: Path, seconds: float) -> None:
    """Write the figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "scenario": result.scenario.name,
            "fault": result.scenario.fault,
            "must_hold": result.scenario.must_hold,
            "pool": result.pool,
            "figures": result.figures,
            "breaches": result.breaches,
            "seconds": round(result.seconds, 1),
        }
        for result in results
    ]
    holds = not any(result.breaches for result in results)
    content = {"holds": holds, "seconds": round(seconds, 1), "results": rows}
    path.write_text(json.dumps(content, indent=2) + "\n")
