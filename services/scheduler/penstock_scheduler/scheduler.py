"""Celery's own scheduler, with a heartbeat on its loop."""

from typing import Any

from celery.beat import PersistentScheduler

from penstock import health


class Scheduler(PersistentScheduler):
    """Sends what is due and shows that it is alive; see `penstock.health`."""

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due; return the seconds until the next look."""
        health.beat()
        return min(super().tick(*args, **options), health.INTERVAL)
