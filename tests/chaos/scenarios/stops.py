"""Workers that are told to stop, as by a deployment."""

from threading import Thread

from chaos.feed import Feed
from chaos.scenario import scenario
from chaos.stage import Stage
from chaos.waiting import StoppedError, pause
from chaos.workers import Worker

STOPS, GRACE = 20, 3.0


@scenario(busy=True)
def stops(stage: Stage) -> None:
    """20 times SIGTERM under load, with jobs shorter and longer than the grace - lost 0, doubled
    0; exits within grace + 2 s, within 2 s when idle."""
    workers = stage.work("one", "two", "three", "four", grace=GRACE)
    feed = Feed(stage, 600, 40, lengthy=10, length=2 * GRACE)
    took: list[float] = []
    deployments = [
        Thread(target=_deploy, args=(stage, worker, STOPS // len(workers), took))
        for worker in workers
    ]
    for deployment in deployments:
        deployment.start()
    for deployment in deployments:
        deployment.join()
    feed.join()
    stage.until_ended(90)
    counted = [it.job for it in stage.ledger.entries("start") if it.fence > 1]
    idle = [worker.group.stop(30) for worker in workers]
    stage.figures["stops"] = len(took)
    stage.figures["at most s"] = round(max(took), 1)
    stage.figures["idle at most s"] = round(max(idle), 1)
    stage.figures["runs"] = len(stage.ledger.entries("start"))
    stage.must(len(took) == STOPS, f"{len(took)} stops instead of {STOPS}")
    stage.must(max(took) < GRACE + 2, f"a stop took {max(took):.1f} s")
    stage.must(max(idle) < 2, f"an idle worker took {max(idle):.1f} s to stop")
    stage.must(not counted, f"{len(counted)} jobs were counted as lost: {counted[:3]}")


def _deploy(stage: Stage, worker: Worker, times: int, took: list[float]) -> None:
    """Stop the worker and start it again, so many times; `took` takes the seconds."""
    try:
        for _ in range(times):
            pause(1.5)
            took.append(worker.group.stop(30))
            code = worker.group.process.poll()
            stage.must(code == 0, f"{worker.name}: exit code {code}, {worker.group.last_words()}")
            worker.group.kill()
            worker.start()
            stage.until_ready([worker])
    except StoppedError:
        return
