"""Celery's own scheduler, with a heartbeat on its loop."""

from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler

from penstock import health


class Scheduler(PersistentScheduler):
    """Sends what is due and shows that it is alive; see `penstock.health`."""

    # Celery's types know no file.
    schedule_filename: str

    def setup_schedule(self) -> None:
        """Open the file in which the last runs are kept; its folder is made where there is none."""
        Path(self.schedule_filename).parent.mkdir(parents=True, exist_ok=True)
        super().setup_schedule()

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due; return the seconds until the next look."""
        health.beat()
        return min(super().tick(*args, **options), health.INTERVAL)

    def close(self) -> None:
        """Save what is to be remembered; called when the process is told to end."""
        super().close()
        health.end()
