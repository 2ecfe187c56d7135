"""Workers that are slow, frozen or gone, and the leases on what they held."""

from functools import partial
from statistics import median
from time import monotonic

from chaos.scenario import scenario
from chaos.stage import RECOVERY, START_LIMIT, Stage
from chaos.waiting import pause, until
from chaos.workers import Worker

from penstock.custody import LEASE


@scenario()
def lasting(stage: Stage) -> None:
    """a job ten times longer than the lease; a countdown of five leases - each runs once."""
    stage.work("one", "two")
    long = stage.publish("linger", {"first": 10 * LEASE, "later": 10 * LEASE})
    due = monotonic() + 5 * LEASE
    delayed = stage.publish("work", {"seconds": 0.1}, countdown=5 * LEASE)
    stage.until_ended(10 * LEASE + 30)
    starts = stage.ledger.of("start", delayed)
    runs = len(stage.ledger.of("start", long)) + len(starts)
    late = starts[0].at - due if starts else 99.0
    stage.figures["runs"] = runs
    stage.figures["countdown late s"] = round(late, 2)
    stage.must(runs == 2, f"the two jobs began {runs} times")
    stage.must(-0.1 < late < 3, f"the countdown was {late:.1f} s late")


@scenario()
def frozen(stage: Stage) -> None:
    """a worker frozen while it waits, a job published, the worker killed - the job runs elsewhere
    within 20 s."""
    victim, _ = stage.work("frozen", "other")
    stuck, published = _freeze_with_a_job(stage, victim)
    victim.group.kill()
    stage.until_ended(60)
    starts = [it.at for job_id in stuck for it in stage.ledger.of("start", job_id)]
    seconds = max(starts, default=published + 99) - published
    stage.figures["runs elsewhere after s"] = round(seconds, 1)
    stage.must(stuck, "the frozen worker was given no job")
    stage.must(seconds < RECOVERY, f"the job ran after {seconds:.1f} s")


def _freeze_with_a_job(stage: Stage, victim: Worker) -> tuple[list[str], float]:
    """Freeze the worker in a wait that a job ends; return what is stuck, and since when."""
    for _ in range(10):
        victim.group.freeze()
        published = monotonic()
        # One for each of the two workers that wait.
        pair = [stage.publish("work", {"seconds": 0.01}) for _ in range(2)]
        pause(1.5)
        if stuck := [job_id for job_id in pair if not stage.ledger.of("start", job_id)]:
            return stuck, published
        # It was frozen between two waits.
        victim.group.thaw()
        pause(0.3)
    return [], published


@scenario()
def recovery(stage: Stage) -> None:
    """a worker killed in the middle of a job, another one idle, 5 times - the job starts again
    within 20 s (median)."""
    victims = stage.work(*(f"victim{number}" for number in range(5)), concurrency=1)
    for _ in victims:
        stage.publish("linger", {"first": 300, "later": 0.1})
    until(lambda: len(stage.ledger.entries("start")) == 5, "each has a job", START_LIMIT)
    stage.work("idle", concurrency=5)
    killed = {}
    for victim in victims:
        # At different times since each has renewed its lease.
        pause(1.7)
        killed[victim.name] = monotonic()
        victim.group.kill()
    stage.until_ended(60)
    seconds = []
    for job_id in stage.accepted:
        first, *again = stage.ledger.of("start", job_id)
        seconds.append(again[0].at - killed[first.worker] if again else 99.0)
    stage.figures["starts again after s"] = round(median(seconds), 1)
    stage.figures["at most s"] = round(max(seconds), 1)
    stage.must(median(seconds) < RECOVERY, f"it took {median(seconds):.1f} s")


@scenario()
def late(stage: Stage) -> None:
    """a result that arrives from a worker which had lost its lease - the newer run's state
    stands."""
    (loser,) = stage.work("loser")
    # One result comes when the newer run has ended, the other while it goes on.
    ended = stage.publish("linger", {"first": 3, "later": 0.1})
    going_on = stage.publish("linger", {"first": 3, "later": 12})
    until(lambda: len(stage.ledger.entries("start")) == 2, "both have begun", START_LIMIT)
    loser.group.freeze()
    (heir,) = stage.work("heir")
    until(lambda: len(stage.ledger.entries("start")) == 4, "both begin again", START_LIMIT)
    until(lambda: not stage.not_ended([ended]), "the newer run ends", START_LIMIT)
    before = stage.record(ended)
    loser.group.thaw()
    for job_id in (ended, going_on):
        until(partial(_is_awake, stage, loser, job_id), "the late run ends", START_LIMIT)
    pause(2)
    stage.must(stage.not_ended([going_on]), "the late run ended the job of the newer one")
    stage.until_ended(60)
    stage.must(before == stage.record(ended), "the late run changed a record that was complete")
    for job_id in (ended, going_on):
        _must_be_by(stage, heir, job_id)
    # A worker that has lost its lease is as good as any other.
    heir.group.kill()
    last = stage.publish("work", {"seconds": 0.1})
    stage.until_ended(START_LIMIT)
    _must_be_by(stage, loser, last)
    stage.figures["late results"] = 2


def _is_awake(stage: Stage, worker: Worker, job_id: str) -> bool:
    return any(it.worker == worker.name for it in stage.ledger.of("awake", job_id))


def _must_be_by(stage: Stage, worker: Worker, job_id: str) -> None:
    record = stage.record(job_id)
    result = record.result if record else None
    stage.must(result == worker.name, f"the result is {result!r}, not {worker.name!r}")
