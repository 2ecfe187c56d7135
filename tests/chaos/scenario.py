"""What a scenario is: a function that plays on a stage, whose docstring is its row of the table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos.groups import Reaper
from chaos.stage import Stage

Play = Callable[[Stage], None]

POOLS = ("prefork", "threads")


@dataclass(frozen=True)
class Scenario:
    """A row of the table. Of the busy ones only a few run at the same time."""

    play: Play
    pools: tuple[str, ...]
    busy: bool

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return self.play.__name__

    @property
    def fault(self) -> str:
        """What goes wrong."""
        return self._row[0]

    @property
    def must_hold(self) -> str:
        """What must hold all the same."""
        return self._row[1]

    @property
    def _row(self) -> tuple[str, str]:
        fault, _, must_hold = " ".join((self.play.__doc__ or "").split()).partition(" - ")
        return fault, must_hold.rstrip(".")


SCENARIOS: dict[str, Scenario] = {}


def scenario(*, pools: tuple[str, ...] = POOLS, busy: bool = False) -> Callable[[Play], Play]:
    """Enlist a function; its docstring is "FAULT - WHAT MUST HOLD"."""

    def enlist(play: Play) -> Play:
        SCENARIOS[play.__name__] = Scenario(play, pools, busy)
        return play

    return enlist


def play(scene: Play, folder: Path, pool: str, reaper: Reaper) -> Stage:
    """Play on a stage below `folder`, judge it, and return the stage with what was found."""
    stage = Stage(folder, pool, reaper)
    try:
        with stage:
            scene(stage)
            stage.judge()
    except Exception as error:
        # What could not be played to its end has shown nothing.
        stage.breaches.append(f"{type(error).__name__}: {error}")
    return stage
