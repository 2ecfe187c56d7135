"""Jobs with what the real ones seldom have: `celery --app integration.slow_tasks worker`."""

import os
import signal
from pathlib import Path
from time import sleep

from penstock.settings import get_settings
from penstock.stack import make_app

app = make_app(get_settings())


@app.task(name="slow.sleep", time_limit=1)
def sleep_too_long() -> None:
    sleep(600)


@app.task(name="slow.lose_process")
def lose_process(begun: str) -> str:
    """Lose the pool's process on the first attempt, as when the system runs out of memory."""
    if Path(begun).exists():
        return "done by another process"
    Path(begun).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process does not go on")


@app.task(name="slow.wait")
def wait(begun: str, go: str) -> str:
    """Say that the job has begun, and end it when it is told to go."""
    Path(begun).touch()
    while not Path(go).exists():
        sleep(0.02)
    return "done"
