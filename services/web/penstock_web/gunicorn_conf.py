"""Gunicorn's configuration: `gunicorn --config python:penstock_web.gunicorn_conf`."""

import os
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from penstock import roles
from penstock.reach import require_database, require_files, require_redis
from penstock.settings import get_settings
from penstock_web import metrics
from penstock_web.auth import required_key

settings = get_settings()

bind = settings.web_bind
# A hit is answered in the event loop, everything else in threads; docs/cache.md has the figures.
worker_class = "asgi"
asgi_lifespan = "off"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
# A socket for each process, since the first to wake would take every connection that waits.
reuse_port = True
# Longer than a load balancer keeps an idle connection, or it would send into a closed one.
keepalive = 75
timeout = 60
graceful_timeout = 25
# Against memory that is lost bit by bit. A process answers thousands of hits a second, and a new
# one begins with nothing at hand, so this is hours under load and weeks without.
max_requests = 10_000_000
max_requests_jitter = 1_000_000
# The heartbeat of a Gunicorn worker is a file; on a disk a full write queue would kill the worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
control_socket_disable = True
accesslog = "-"
logger_class = "penstock_web.gunicorn_log.Logger"


def on_starting(server: Any) -> None:
    """Begin only when what a request needs is there: a worker that ends would be started anew."""
    required_key(settings)
    require_database(settings)
    require_redis(settings, "broker")
    require_redis(settings, "results")
    require_files(settings)
    roles.check(settings, "broker", "results")
    if settings.cache == "redis":
        roles.check(settings, "cache")


def when_ready(server: Any) -> None:
    """Make the folder that the workers count in, now that nothing stands in the way of a start."""
    os.environ[metrics.FOLDER] = mkdtemp(prefix="penstock-metrics-", dir=worker_tmp_dir)


def on_exit(server: Any) -> None:
    """Leave nothing behind."""
    if folder := os.environ.get(metrics.FOLDER):
        rmtree(folder, ignore_errors=True)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the lowest place that none of those alive has."""
    taken = {it.place for it in server.WORKERS.values()}
    worker.place = next(place for place in count() if place not in taken)


def post_fork(server: Any, worker: Any) -> None:
    """Let it count on where the last worker in its place ended."""
    metrics.count_at(worker.place)
