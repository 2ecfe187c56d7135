"""A short run of the harness itself; `./task chaos` is the long one."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from chaos.groups import Reaper
from chaos.scenario import POOLS, play
from chaos.scenarios.kills import play_kills

pytestmark = pytest.mark.chaos


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.end()


@pytest.mark.parametrize("pool", POOLS)
def test_nothing_is_lost_or_done_twice_when_workers_are_killed(
    pool: str, tmp_path: Path, reaper: Reaper
) -> None:
    stage = play(partial(play_kills, jobs=300, times=3), tmp_path / "stage", pool, reaper)

    assert stage.breaches == []
    assert stage.figures["jobs"] == 300
    assert stage.figures["kills"] == 3
