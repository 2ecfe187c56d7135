"""The same processes without Penstock: a Flask application and Celery workers."""

from typing import Any

from celery import Celery
from celery.result import AsyncResult
from flask import Flask

QUEUES = ("email", "image", "report", "payment")

app = Celery("plain", broker="redis://broker:6379/0", backend="redis://results:6379/0")
app.conf.task_routes = {name: {"queue": name} for name in QUEUES}


def _work() -> str:
    return "done"


for name in QUEUES:
    app.task(name=name, shared=False)(_work)

web = Flask(__name__)


@web.get("/readyz")
def ready() -> dict[str, str]:
    """Answer that requests are served."""
    return {"status": "ok"}


@web.post("/jobs/<queue>")
def accept(queue: str) -> tuple[dict[str, Any], int]:
    """Bring a job to its queue."""
    return {"task_id": app.send_task(queue).id}, 202


@web.get("/jobs/<job_id>")
def status(job_id: str) -> dict[str, Any]:
    """Tell whether a job has ended."""
    return {"state": AsyncResult(job_id, app=app).state}
