"""Celery, set to lose as little as its own options allow."""

from bench.queue.peers.with_celery import app, run, send

app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
)

__all__ = ["app", "run", "send"]
