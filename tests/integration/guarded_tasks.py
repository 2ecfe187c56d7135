"""Jobs with an effect that is written to a file: `celery --app integration.guarded_tasks worker`.

Each line of the file `effects` is one effect; the file `lost` says that a process was lost already.
"""

import os
import signal
from pathlib import Path
from time import sleep

from celery import Celery

from penstock import install
from penstock.settings import get_settings
from penstock.task import JobTask

app = install(Celery("guarded", set_as_current=False), get_settings())
app.conf.update(broker_url=get_settings().redis("broker"), task_default_queue="guarded")


class Busy(Exception):  # noqa: N818 - what the other side is
    """Nothing has happened, and may later."""


def lose_process(folder: Path) -> None:
    """End the process that runs the job, the first time, as when the system runs out of memory."""
    if not (folder / "lost").exists():
        (folder / "lost").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def have_effect(folder: Path) -> str:
    with (folder / "effects").open("a") as effects:
        effects.write("effect\n")
    return "had"


@app.task(bind=True, name="guarded.lost_after_it")  # type: ignore[arg-type]
def lost_after_it(self: JobTask, folder: str) -> str:
    """Lose the process when the effect is settled and the job has not ended."""
    had: str = self.once("effect", lambda: have_effect(Path(folder)))
    lose_process(Path(folder))
    return had


def _lost_in_it(self: JobTask, folder: str) -> str:
    def act() -> str:
        had = have_effect(Path(folder))
        lose_process(Path(folder))
        return had

    result: str = self.once("effect", act)
    return result


lost_in_it = app.task(  # type: ignore[call-overload]
    _lost_in_it, bind=True, name="guarded.lost_in_it"
)
lost_in_mail = app.task(  # type: ignore[call-overload]
    _lost_in_it, bind=True, name="guarded.lost_in_mail", uncertain="retry"
)


@app.task(bind=True, name="guarded.busy", autoretry_for=(Busy,), max_retries=1)  # type: ignore[arg-type]
def busy(self: JobTask, folder: str, delay: float) -> str:
    """Be put off once, for `delay` seconds, before anything happens; then have the effect."""

    def act() -> str:
        if self.request.retries == 0:
            raise Busy
        return have_effect(Path(folder))

    try:
        result: str = self.once("effect", act, released_by=(Busy,))
    except Busy as error:
        self.retry(exc=error, countdown=delay)
    return result


@app.task(bind=True, name="guarded.steps")  # type: ignore[arg-type]
def steps(self: JobTask, folder: str) -> None:
    """Say that it has begun, and report progress for as long as it is let."""
    (Path(folder) / "begun").touch()
    for done in range(100_000):
        sleep(0.02)
        self.progress(done, 100_000)
