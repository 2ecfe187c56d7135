"""The worker's heartbeat, on its main loop; see `penstock.health`."""

from typing import Any

from celery import bootsteps

from penstock import health


class WorkerHeartbeat(bootsteps.StartStopStep):
    """Beats from the moment the worker takes messages until it stops to."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Begin to beat; called again after a lost connection."""
        health.beat()
        self.timer = parent.timer.call_repeatedly(health.INTERVAL, health.beat)

    def stop(self, parent: Any) -> None:
        """Beat no more."""
        self.timer.cancel()
        health.end()
