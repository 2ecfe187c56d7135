"""The lists in the folder requirements that no tool has written."""

from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements"


def lines(name: str) -> list[str]:
    """Return what a list has, without its comments."""
    text = (REQUIREMENTS / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]
