"""Text for a terminal, which shows whatever it is and is not acted on."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size

# Columns of what is no terminal, such as a file.
NOT_CUT = 10_000


def printable(text: str) -> str:
    """Return one line of text with escapes in place of what a terminal would act on."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def moment(seconds: float) -> str:
    """Return a time, given in seconds since 1970, to the second and in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def block(text: str, indent: str = "  ") -> str:
    """Return lines of text as `printable`, indented."""
    return "\n".join(indent + printable(line) for line in text.splitlines())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return columns as wide as they must be; lines that are too long for a terminal are cut."""
    lines = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    width = get_terminal_size(fallback=(NOT_CUT, 1)).columns
    return "\n".join(
        "  ".join(cell.ljust(wide) for cell, wide in zip(line, widths, strict=True))[
            :width
        ].rstrip()
        for line in lines
    )
