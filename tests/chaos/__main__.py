"""`python -m chaos`: play the scenarios, print the table, write the figures to var/chaos.json."""

import argparse
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from logging import CRITICAL
from pathlib import Path
from time import monotonic

import chaos.scenarios  # noqa: F401 - which enlists them
import structlog
from chaos.groups import Reaper
from chaos.report import Result, table, write
from chaos.scenario import POOLS, SCENARIOS, Scenario, play
from chaos.waiting import stopping

VAR = Path(__file__).parents[2] / "var"
# How many run at the same time: of those that keep a processor busy, and of those that wait.
BUSY, CALM = 2, 5


def main() -> int:
    """Return 1 when anything did not hold."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--pool", choices=POOLS, help="with this pool alone")
    wanted = parser.parse_args()
    if unknown := set(wanted.scenario) - set(SCENARIOS):
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    chosen = [
        (SCENARIOS[name], pool)
        for name in SCENARIOS
        for pool in SCENARIOS[name].pools
        if name in (wanted.scenario or SCENARIOS) and pool in (wanted.pool or POOLS)
    ]
    # What a client says of an outage that was made on purpose.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = monotonic()
    results = _play_all(chosen)
    seconds = monotonic() - began
    write(results, VAR / "chaos.json", seconds)
    print(table(results))
    breaches = sum(len(result.breaches) for result in results)
    print(f"{len(results)} scenarios in {seconds:.0f} s, {breaches} breaches")
    return 1 if breaches else 0


def _play_all(chosen: list[tuple[Scenario, str]]) -> list[Result]:
    reaper = Reaper()
    busy, calm = ThreadPoolExecutor(BUSY), ThreadPoolExecutor(CALM)
    futures = [
        (busy if scenario.busy else calm).submit(_play, scenario, pool, reaper)
        for scenario, pool in chosen
    ]
    try:
        return [future.result() for future in futures]
    except KeyboardInterrupt:
        stopping.set()
        reaper.end()
        print("chaos: interrupted", file=sys.stderr, flush=True)
        # Not sys.exit, which would wait for the scenarios.
        os._exit(130)
    finally:
        reaper.end()


def _play(scenario: Scenario, pool: str, reaper: Reaper) -> Result:
    folder = VAR / "chaos" / f"{scenario.name}-{pool}"
    began = monotonic()
    stage = play(scenario.play, folder, pool, reaper)
    result = Result(scenario, pool, stage.figures, stage.breaches, monotonic() - began)
    print(f"{result.verdict}: {scenario.name}, {pool}, {result.seconds:.0f} s", file=sys.stderr)
    return result


if __name__ == "__main__":
    sys.exit(main())
