"""Text for a terminal."""

import pytest

from penstock import terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 漢 and 🙂", "plain, é, 漢 and 🙂"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202e\u2028\x00", "\\u202e\\u2028\\x00"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str) -> None:
    assert terminal.printable(text) == shown


def test_lines_stay_lines_and_are_indented() -> None:
    assert terminal.block("one\n  two\x07") == "  one\n    two\\x07"


def test_columns_are_aligned_and_cut_at_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    rows = [("1", "a long\nerror message"), ("1000", "short")]

    assert terminal.table(("ID", "ERROR"), rows).splitlines() == [
        "ID    ERROR",
        "1     a long\\nerror",
        "1000  short",
    ]


def test_a_time_is_utc_and_nonsense_is_shown_as_it_is() -> None:
    assert terminal.moment(1795359707.52) == "2026-11-22 15:01:47"
    assert terminal.moment(1e300) == "1e+300"
