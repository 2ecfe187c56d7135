"""The worker of stuck_tasks.py, told to stop before it has begun to take messages."""

import os
import signal
from typing import Any

from integration.slow_tasks import app
from integration.stuck_tasks import Stuck


class Told(Stuck):
    """Tells the worker to stop while it starts."""

    def start(self, parent: Any) -> None:
        """Send what a container's engine sends."""
        os.kill(os.getpid(), signal.SIGTERM)


app.steps["consumer"].add(Told)
