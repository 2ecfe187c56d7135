"""A job on a broker behind Sentinel: `celery --app integration.sentinel_tasks worker`."""

import os
from time import sleep

from celery import Celery

from penstock import install
from penstock.settings import get_settings

app = Celery("sentinel", broker=os.environ["SENTINEL"], set_as_current=False)
app.conf.update(
    broker_transport_options={"master_name": "jobs", "global_keyprefix": "theirs:"},
    task_default_queue="jobs",
)
install(app, get_settings())


@app.task(name="sentinel.wait")
def wait(seconds: float) -> str:
    """Take so long."""
    sleep(seconds)
    return "done"
