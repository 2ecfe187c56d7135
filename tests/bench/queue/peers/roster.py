"""The peers: how a worker of each is started, with two processes."""

from dataclasses import dataclass

PROCESSES = 2
_PEERS = "bench.queue.peers"


@dataclass(frozen=True)
class Peer:
    """A task queue. `rate` is about how many no-ops it does in a second."""

    name: str
    module: str
    command: str
    rate: int

    @property
    def words(self) -> list[str]:
        """The command that starts a worker."""
        return self.command.format(module=self.module, processes=PROCESSES).split()


_CELERY = "celery -A {module} worker --concurrency {processes}"
PENSTOCK = Peer("penstock", f"{_PEERS}.with_penstock", _CELERY, 2000)
BASELINE = Peer("celery", f"{_PEERS}.with_celery", _CELERY, 2000)
PEERS = [
    PENSTOCK,
    BASELINE,
    Peer("celery late", f"{_PEERS}.with_celery_late", _CELERY, 2000),
    Peer("dramatiq", f"{_PEERS}.with_dramatiq", "dramatiq {module} --processes {processes}", 5000),
    Peer("rq", f"{_PEERS}.with_rq", "rq worker-pool --quiet --num-workers {processes}", 150),
    Peer(
        "huey",
        f"{_PEERS}.with_huey",
        "huey_consumer {module}.app --quiet --worker-type process --workers {processes}",
        7000,
    ),
    Peer(
        "taskiq",
        f"{_PEERS}.with_taskiq",
        "taskiq worker {module}:broker --workers {processes}",
        4000,
    ),
]
