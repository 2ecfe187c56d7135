"""The jobs of slow_tasks.py on a worker whose end waits for something that does not come."""

from time import sleep
from typing import Any

from celery import bootsteps

from integration.slow_tasks import app


class Stuck(bootsteps.StartStopStep):
    """Stops too late, as a step of Celery's does that wants to tell a broker which is gone."""

    def stop(self, parent: Any) -> None:
        """Wait."""
        sleep(600)


app.steps["consumer"].add(Stuck)
