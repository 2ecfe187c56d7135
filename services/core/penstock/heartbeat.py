"""The worker's heartbeat, on its main loop; see `penstock.health`."""

from time import monotonic
from typing import Any

from celery import bootsteps

from penstock import health, transport

# Seconds between two writes of the file; the loop itself is woken more often, so that a signal to
# stop is noticed at once.
WRITE_INTERVAL = 2.0


class WorkerHeartbeat(bootsteps.StartStopStep):
    """Beats from the moment the worker takes messages until it stops to."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _written_at = 0.0

    def start(self, parent: Any) -> None:
        """Begin to beat; called again after a lost connection."""
        self._beat(parent)
        self.timer = parent.timer.call_repeatedly(health.INTERVAL, self._turn, (parent,))

    def stop(self, parent: Any) -> None:
        """Beat no more."""
        self.timer.cancel()
        health.end()

    def _turn(self, consumer: Any) -> None:
        if monotonic() - self._written_at >= WRITE_INTERVAL:
            self._beat(consumer)

    def _beat(self, consumer: Any) -> None:
        now = self._written_at = monotonic()
        channel = consumer.task_consumer.channel
        asked: float | None = getattr(channel, "_brpop_sent_at", None)
        # Nothing is asked for while there is no room for it.
        polled = now - asked if asked and channel.qos.can_consume() else 0.0
        renewed = [now - custody.renewed_at for custody in transport.custodies()]
        health.beat(polled=polled, renewed=max(renewed) if renewed else None)
