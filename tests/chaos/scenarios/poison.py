"""Jobs that take the process that runs them with them."""

from threading import Event, Thread

from chaos.feed import Feed
from chaos.scenario import scenario
from chaos.stage import Stage

DELIVERIES = 3


@scenario(pools=("prefork",))
def poison_child(stage: Stage) -> None:
    """a job that kills its child - poison after 3 deliveries; the other jobs go on."""
    stage.work("one")
    _play(stage, "kill_child", jobs=50, seconds=10)


@scenario()
def poison_container(stage: Stage) -> None:
    """a job that kills its container - poison after 3 deliveries; the other jobs go on."""
    stage.work("one", "two")
    # Neighbours that are at work whenever the poison strikes.
    for _ in range(3):
        stage.publish("linger", {"first": 4, "later": 4})
    _play(stage, "kill_container", jobs=200, seconds=60)


@scenario()
def poison_memory(stage: Stage) -> None:
    """a job that eats memory, under a limit - poison after 3 deliveries; the other jobs go on."""
    stage.work("one", memory=1 << 30)
    _play(stage, "eat_memory", jobs=100, seconds=20)


def _play(stage: Stage, job: str, *, jobs: int, seconds: float) -> None:
    """Publish the poison among other jobs; containers that end are started again."""
    poison = stage.publish(job)
    done = Event()
    engine = Thread(target=_start_what_ends, args=(stage, done))
    engine.start()
    try:
        Feed(stage, jobs, seconds).join()
        stage.until_ended(90)
    finally:
        done.set()
        engine.join()
    record = stage.record(poison)
    reason = record.reason if record else "not known"
    deliveries = len(stage.ledger.of("start", poison))
    others = [letter["id"] for letter in stage.letters() if letter["id"] != poison]
    stage.figures["deliveries"] = deliveries
    stage.figures["restarts"] = sum(worker.starts - 1 for worker in stage.workers)
    stage.must(reason == "poison", f"the job's end is {reason!r}, not 'poison'")
    stage.must(deliveries == DELIVERIES, f"{deliveries} deliveries instead of {DELIVERIES}")
    stage.must(not others, f"{len(others)} other jobs were dead-lettered: {others[:3]}")


def _start_what_ends(stage: Stage, done: Event) -> None:
    """Do what a container's engine does, until done."""
    while not done.wait(0.5):
        for worker in stage.workers:
            if worker.group.deserted:
                worker.start()
