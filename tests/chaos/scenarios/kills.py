"""Workers and servers that are killed under load."""

from random import Random
from threading import Thread
from time import monotonic

from chaos.feed import Feed
from chaos.scenario import scenario
from chaos.stage import RECOVERY, Stage
from chaos.waiting import StoppedError, pause
from chaos.workers import Worker

JOBS, KILLS = 3000, 25
# Seconds between two kills, between two outages, and that an outage lasts.
INTERVAL, CALM, OUTAGE = 2.0, 8.0, 2.0


@scenario(busy=True)
def kills(stage: Stage) -> None:
    """3 workers, 3,000 jobs of 5-200 ms, a random worker killed every 2 s, 25 times - lost 0,
    doubled 0, every job in a terminal state."""
    play_kills(stage, JOBS, KILLS)


def play_kills(stage: Stage, jobs: int, times: int) -> None:
    """Kill workers, so many times, while so many jobs are published."""
    stage.work("one", "two", "three", concurrency=3)
    feed = Feed(stage, jobs, times * INTERVAL)
    _kill_at_random(stage, stage.workers, times)
    feed.join()
    stage.until_ended(60)
    stage.figures["kills"] = times
    stage.figures["runs"] = len(stage.ledger.entries("start"))


@scenario(busy=True)
def outages(stage: Stage) -> None:
    """the same, and the broker killed and restarted three times, the results server twice, once
    both together - the same; workers reconnect by themselves, none has to be restarted."""
    # One that is not killed shows what a worker does when the broker is back.
    (witness,) = stage.work("witness", concurrency=1)
    victims = stage.work("one", "two", "three", concurrency=3)
    feed = Feed(stage, JOBS, KILLS * INTERVAL)
    back: list[float] = []
    failing = Thread(target=_fail_servers, args=(stage, back))
    failing.start()
    _kill_at_random(stage, victims, KILLS)
    failing.join()
    feed.join()
    stage.until_ended(60)
    starts = [it.at for it in stage.ledger.entries("start") if it.worker == witness.name]
    gaps = [min((at - since for at in starts if at > since), default=99.0) for since in back]
    stage.figures["kills"] = KILLS
    stage.figures["outages"] = 4
    stage.figures["runs"] = len(stage.ledger.entries("start"))
    stage.figures["reconnected after s"] = [round(gap, 1) for gap in gaps]
    stage.must(len(gaps) == 3, f"the broker came back {len(gaps)} times instead of 3")
    stage.must(max(gaps) < RECOVERY, f"a worker took {max(gaps):.0f} s to reconnect")


def _fail_servers(stage: Stage, back: list[float]) -> None:
    """Kill the servers and start them again; `back` takes when the broker was."""
    broker, results = stage.broker, stage.results
    try:
        for servers in ([broker], [results], [broker], [broker, results]):
            pause(CALM)
            for server in servers:
                server.kill()
            pause(OUTAGE)
            for server in servers:
                server.start()
            if broker in servers:
                back.append(monotonic())
    except StoppedError:
        return


def _kill_at_random(stage: Stage, victims: list[Worker], times: int) -> None:
    """Kill a worker at every interval, one that works where there is one, and start it again."""
    random = Random(7)
    began = monotonic()
    for number in range(1, times + 1):
        pause(began + number * INTERVAL - monotonic())
        victim = random.choice([it for it in victims if it.ready] or victims)
        stage.must(not victim.group.deserted, f"{victim.name}: {victim.group.last_words()}")
        victim.group.kill()
        victim.start()
