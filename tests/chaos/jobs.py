"""The Celery app under test: `penstock.install` on an ordinary app, and jobs that do harm."""

import os
import signal
from time import sleep

from celery import Celery, shared_task
from chaos import ledger

from penstock import install
from penstock.settings import Settings
from penstock.task import JobTask

QUEUE = "chaos"


class BusyError(Exception):
    """What a provider says that can be asked again later."""


def make_app(settings: Settings) -> Celery:
    """Return an app whose workers can run the jobs below."""
    app = install(Celery("chaos", set_as_current=False), settings)
    app.conf.update(broker_url=settings.redis("broker"), task_default_queue=QUEUE)
    return app


# Celery's types know its own Task only, not the class that `penstock.install` puts in its place.
@shared_task(name="work", bind=True)  # type: ignore[arg-type]
def work(self: JobTask, seconds: float) -> str:
    """Take so long, with the effect half way."""
    _note(self, "start")
    sleep(seconds / 2)
    _pay(self)
    sleep(seconds / 2)
    return _worker(self)


@shared_task(name="linger", bind=True)  # type: ignore[arg-type]
def linger(self: JobTask, first: float, later: float) -> str:
    """Take `first` seconds in the first run and `later` in every other, then have the effect."""
    _note(self, "start")
    sleep(first if self.fence == 1 else later)
    _note(self, "awake")
    _pay(self)
    return _worker(self)


@shared_task(name="retried", bind=True, max_retries=1)  # type: ignore[arg-type]
def retried(self: JobTask, wait: float) -> str:
    """Fail, and succeed when tried again `wait` seconds later."""
    _note(self, "start")
    if self.request.retries == 0:
        self.retry(exc=BusyError(), countdown=wait)
    _pay(self)
    return _worker(self)


@shared_task(name="kill_child", bind=True)  # type: ignore[arg-type]
def kill_child(self: JobTask) -> None:
    """Kill the process that runs this."""
    _note(self, "start")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="kill_container", bind=True)  # type: ignore[arg-type]
def kill_container(self: JobTask) -> None:
    """Kill the worker with all that belongs to it."""
    _note(self, "start")
    os.killpg(0, signal.SIGKILL)


@shared_task(name="eat_memory", bind=True)  # type: ignore[arg-type]
def eat_memory(self: JobTask) -> None:
    """Take memory until there is none."""
    _note(self, "start")
    eaten = []
    while True:
        eaten.append(b"x" * (16 << 20))
        sleep(0.002)


def _pay(task: JobTask) -> None:
    """Have an effect that must happen once."""
    task.once("pay", lambda: _note(task, "effect"))


def _note(task: JobTask, kind: str) -> None:
    """Tell the ledger what this run does."""
    ledger.note(kind, task.job_id, _worker(task), task.fence)


def _worker(task: JobTask) -> str:
    """Return the name of the worker that runs this."""
    return str(task.request.hostname).partition("@")[0]
