"""Retries that wait while nobody works."""

from random import Random
from time import time

from chaos.jobs import QUEUE
from chaos.scenario import scenario
from chaos.stage import START_LIMIT, Stage
from chaos.waiting import pause, until

from penstock.broker import Keys

JOBS = 1000


@scenario()
def retries(stage: Stage) -> None:
    """every worker stopped while 1,000 retries wait, then started again - all run, at their
    time."""
    random = Random(5)
    workers = stage.work("one", "two", concurrency=4)
    waits = [random.uniform(40, 70) for _ in range(JOBS)]
    wait_of = {stage.publish("retried", {"wait": wait}): wait for wait in waits}
    delayed = Keys().delayed(QUEUE)
    until(lambda: stage.broker.client.zcard(delayed) == JOBS, "the retries wait", START_LIMIT)
    for worker in workers:
        worker.group.kill()
    due = {it.job: it.clock + wait_of[it.job] for it in stage.ledger.entries("start")}
    # Some come due while nobody works, the others later.
    pause(min(due.values()) + 5 - time())
    for worker in workers:
        worker.start()
    stage.until_ready(workers)
    ready = time()
    stage.until_ended(90)
    again = {it.job: it.clock for it in stage.ledger.entries("start") if it.fence > 1}
    late = {job_id: again.get(job_id, ready + 999) - at for job_id, at in due.items()}
    overdue = {job_id for job_id, at in due.items() if at < ready}
    stage.figures["overdue at the start"] = len(overdue)
    waited = max(again.get(job_id, ready + 999) - ready for job_id in overdue)
    stage.figures["then run within s"] = round(waited, 1)
    others = max(seconds for job_id, seconds in late.items() if job_id not in overdue)
    stage.figures["others late at most s"] = round(others, 1)
    stage.must(min(late.values()) >= 0, f"a retry ran {-min(late.values()):.2f} s too early")
    stage.must(waited < 5, f"what was overdue took {waited:.1f} s")
    stage.must(others < 5, f"a retry ran {others:.1f} s late")
