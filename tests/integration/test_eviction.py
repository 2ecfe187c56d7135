"""Traces read from real Redis servers that evict, and the page that is written of it."""

import re
import sys
from pathlib import Path

import pytest
from bench.policies.replay_redis import POLICIES, Evicting, Replay, replay
from bench.policies.report import BEGIN, END
from processes import environment, run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_calibrated_server_holds_as_many_entries_as_asked(policy: str, tmp_path: Path) -> None:
    trace = [number % 400 for number in range(2_000)]
    (outcome,) = replay([Replay(policy, 200, trace)], 2_000, tmp_path)
    assert outcome.held == pytest.approx(200, rel=0.05)
    assert outcome.maxmemory > 200 * 1_000
    assert 0 < outcome.ratio < 0.6


def test_what_fits_is_read_from_the_store_but_for_the_first_time(tmp_path: Path) -> None:
    trace = [number % 80 for number in range(800)]
    outcomes = replay([Replay(policy, 100, trace) for policy in POLICIES], 4_000, tmp_path)
    assert [outcome.ratio for outcome in outcomes] == [0.9] * len(POLICIES)


def test_lfu_keeps_what_was_read_often_and_random_does_not(tmp_path: Path) -> None:
    often = list(range(20))
    new = [[1_000 + 20 * turn + number for number in range(20)] for turn in range(20)]
    kept = {}
    for policy in ("allkeys-lfu", "allkeys-random"):
        with Evicting(policy, 100, tmp_path) as server:
            for _ in range(100):
                server.read(often)
            for once in new:
                server.read(once)
            kept[policy] = server.read(often)[0]
    assert kept["allkeys-lfu"] == 20
    assert kept["allkeys-random"] < 20


def test_the_command_writes_the_table_into_its_page_and_the_plot(tmp_path: Path) -> None:
    page = tmp_path / "cache-policies.md"
    page.write_text(f"# Before\n\n{BEGIN}old\n{END}\nAfter.\n")
    command = [sys.executable, "-m", "bench.policies", "--quick", "--to", str(tmp_path)]
    done = run(*command, env={**environment(), "PYTHONPATH": str(ROOT / "tests")})
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("# Before\n\n")
    assert text.endswith(f"{END}\nAfter.\n")
    assert "old" not in text
    rows = re.findall(r"^\| (?!reads)(.+) \|$", text, re.MULTILINE)
    assert len(rows) == 16
    for row in rows:
        ratios = [float(cell.strip("* ")) for cell in row.split("|")[2:]]
        assert len(ratios) == 8
        # Redis holds a few entries more or less than the cache that the optimum is computed for.
        assert max(ratios[1:4]) <= ratios[0]
        assert max(ratios[4:]) <= ratios[0] + 2
    plot = (tmp_path / "cache-policies.svg").read_text()
    assert "allkeys-lfu" in plot
    assert len(plot) < 200_000


def test_a_page_without_a_place_for_the_figures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache-policies.md").write_text("# Nothing\n")
    command = [sys.executable, "-m", "bench.policies", "--quick", "--to", str(tmp_path)]
    done = run(*command, env={**environment(), "PYTHONPATH": str(ROOT / "tests")})
    assert done.returncode == 2
    assert "has no place for figures" in done.stderr
    assert "Traceback" not in done.stderr
