"""A client that knows nothing of Penstock: `python -m chaos.stranger URL VISIBILITY_TIMEOUT`.

With Celery's own transport and the given timeout in seconds (Celery's default is 3600) it asks the
workers what they do, and publishes jobs at once and with a countdown, whose ids it prints.
"""

import sys
from time import sleep

from celery import Celery


def main() -> None:
    """Go on until killed."""
    app = Celery("stranger", broker=sys.argv[1])
    app.conf.broker_transport_options = {"visibility_timeout": float(sys.argv[2])}
    app.conf.task_default_queue = "chaos"
    while True:
        inspect = app.control.inspect(timeout=1)
        for ask in (inspect.active, inspect.reserved, inspect.scheduled, inspect.stats):
            ask()
        for countdown in (None, 3):
            job = app.send_task("work", kwargs={"seconds": 0.05}, countdown=countdown)
            print(job.id, flush=True)
        sleep(0.5)


if __name__ == "__main__":
    main()
