"""Figures for Prometheus: how much there is to do, what became of it, and the web tier's requests.

What belongs to the whole stack is read from the servers at each scrape, so it is never older than
that and the same whichever web process answers. Requests are counted by the processes themselves,
in files in memory that all of them read.
"""

import os
from collections.abc import Iterator
from importlib.metadata import version
from time import perf_counter
from typing import Any

import structlog
from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from penstock.catalogue import BY_QUEUE, QUEUE_OF
from penstock.producer import PATIENCE
from penstock.settings import Role, Settings
from penstock_web.cache import cache
from penstock_web.services import Services, services

logger = structlog.get_logger(__name__)
blueprint = Blueprint("metrics", __name__)

# The variable that names the folder in which processes count together; without it one counts alone.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# Seconds. Reads from the cache take a few ms, jobs are accepted or refused within one second.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PLACES = ("waiting", "running", "delayed", "due", "dead")


def count_at(place: int) -> None:
    """Count from now on in the files of `place`, which no other process that lives may have.

    By default the files have the process's number and stay when it ends, one more for every worker
    that Gunicorn replaces; and if they went, the sums would fall, which reads as a restart. Here
    the next process of the place goes on with them.
    """
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def init_app(app: Flask) -> None:
    """Time every request; this comes before all that may answer one."""
    registry = CollectorRegistry()
    seconds = Histogram(
        "penstock_http_request_duration_seconds",
        "Seconds from a request's arrival at the application to its answer.",
        ("method", "route", "status"),
        buckets=BUCKETS,
        registry=registry,
    )
    settings: Settings = app.extensions["penstock"].settings
    app.extensions["penstock_requests"] = registry
    app.extensions["penstock_redis"] = {
        role: Redis.from_url(
            settings.redis(role),
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        for role in _roles(settings)
    }

    @app.before_request
    def _begin() -> None:
        g.began = perf_counter()

    @app.after_request
    def _end(answer: Response) -> Response:
        # What a client makes up must not become a series of its own.
        method = request.method if request.method in METHODS else "other"
        route = request.url_rule.rule if request.url_rule else "none"
        seconds.labels(method, route, answer.status_code).observe(perf_counter() - g.began)
        return answer


def _roles(settings: Settings) -> list[Role]:
    roles: list[Role] = ["broker", "results"]
    if settings.cache == "redis":
        roles.append("cache")
    if settings.files_in_redis:
        roles.append("files")
    return roles


@blueprint.get("/metrics")
def read_metrics() -> Response:
    """Answer the figures, in the format that the scraper prefers."""
    registry = CollectorRegistry()
    if FOLDER in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(current_app.extensions["penstock_requests"])
    registry.register(Stack(services(), current_app.extensions["penstock_redis"]))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class Stack(Collector):
    """What is the same whichever process is asked; a server that is away leaves out its own."""

    def __init__(self, services: Services, redis: dict[Role, Redis]) -> None:
        self.services = services
        self.redis = redis

    def collect(self) -> Iterator[Metric]:
        """Yield the figures, read now."""
        yield InfoMetricFamily("penstock", "What runs.", {"version": version("penstock")})
        answers = {role: _info(role, client) for role, client in self.redis.items()}
        yield from _servers(answers)
        yield from self._queues(reached=bool(answers["broker"]))
        if answers["results"]:
            yield from self._ended()
        if answers.get("cache"):
            yield from _cached()

    def _queues(self, *, reached: bool) -> Iterator[Metric]:
        """Yield the figures of the queues, and whether they could be read."""
        up = GaugeMetricFamily(
            "penstock_broker_up", "Whether the figures of the queues could be read."
        )
        try:
            figures = self.services.backlog.read() if reached else []
            dropped = self.services.dead_letters.dropped() if reached else {}
        except RedisError as error:
            logger.warning("the figures of the queues were not read", error=str(error))
            figures, dropped = [], {}
        up.add_metric([], bool(figures))
        yield up
        if not figures:
            return

        jobs = GaugeMetricFamily(
            "penstock_queue_jobs", "Jobs, by where they are.", labels=("queue", "place")
        )
        backlog = _of_queue("backlog", "The work there is now: waiting, running and due.")
        workers = _of_queue("workers", "Workers with a live lease on the queue.")
        limit = _of_queue("limit", "Jobs that may wait before more are refused.")
        age = _of_queue("oldest_age_seconds", "For how long the job that is next has waited.")
        for it in figures:
            for place in PLACES:
                jobs.add_metric([it.queue, place], getattr(it, place))
            backlog.add_metric([it.queue], it.backlog)
            workers.add_metric([it.queue], it.workers)
            limit.add_metric([it.queue], BY_QUEUE[it.queue].limit)
            if it.oldest_age is not None or not it.waiting:
                age.add_metric([it.queue], it.oldest_age or 0)
        yield from (jobs, backlog, workers, limit, age)

        letters = CounterMetricFamily(
            "penstock_dead_letters_dropped",
            "Dead letters that retention dropped, by why it did.",
            labels=("cause", "reason"),
        )
        for cause, reasons in dropped.items():
            for reason, count in reasons.items():
                letters.add_metric([cause, reason], count)
        yield letters

    def _ended(self) -> Iterator[Metric]:
        # Prometheus calls what it scrapes a job; a label of that name would be renamed.
        labels = ("queue", "job_name", "state")
        ended = CounterMetricFamily(
            "penstock_jobs_ended", "Jobs that ended, by how they did.", labels=labels
        )
        seconds = CounterMetricFamily(
            "penstock_jobs_run_seconds", "Seconds that the last runs of those took.", labels=labels
        )
        try:
            tallies = self.services.records.tallies()
        except RedisError as error:
            logger.warning("what became of the jobs was not read", error=str(error))
            return
        for it in tallies:
            of = [QUEUE_OF.get(it.job, ""), it.job, it.state]
            ended.add_metric(of, it.count)
            seconds.add_metric(of, it.seconds)
        yield from (ended, seconds)


def _cached() -> Iterator[Metric]:
    """Yield how often the cache was asked; most of what it has is answered before the app hears."""
    asked = CounterMetricFamily(
        "penstock_cache_requests",
        "Requests for cached views, by what came of them: hit, stale or miss.",
        labels=("view", "outcome"),
    )
    saved = CounterMetricFamily(
        "penstock_cache_saved_seconds", "Seconds of computation that it saved.", labels=("view",)
    )
    for view, numbers in cache.backend.shared_report().get("views", {}).items():
        for outcome, event in (("hit", "hits"), ("stale", "stale"), ("miss", "misses")):
            asked.add_metric([view, outcome], numbers[event])
        saved.add_metric([view], numbers["seconds_saved"])
    yield from (asked, saved)


def _info(role: Role, client: Redis) -> dict[str, Any]:
    """Return what a server says of itself; nothing where it does not answer."""
    try:
        said: dict[str, Any] = client.info()
    except RedisError as error:
        logger.warning("a server is away", role=role, error=str(error))
        return {}
    return said


def _of_queue(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"penstock_queue_{name}", text, labels=("queue",))


def _servers(answers: dict[Role, dict[str, Any]]) -> Iterator[Metric]:
    """Yield what makes a Redis server fail its role; redis_exporter tells the rest."""
    up = GaugeMetricFamily("penstock_redis_up", "Whether it answers.", labels=("role",))
    used = GaugeMetricFamily(
        "penstock_redis_memory_used_bytes", "Memory that it uses.", labels=("role",)
    )
    most = GaugeMetricFamily(
        "penstock_redis_memory_max_bytes", "Its maxmemory; 0 for none.", labels=("role",)
    )
    writes = GaugeMetricFamily(
        "penstock_redis_append_only_ok",
        "Whether the last write to its append-only file succeeded; without one it is 1.",
        labels=("role",),
    )
    evicted = CounterMetricFamily(
        "penstock_redis_evicted_keys", "Keys that it threw away, being full.", labels=("role",)
    )
    refused = CounterMetricFamily(
        "penstock_redis_rejected_connections",
        "Connections that it refused, having too many.",
        labels=("role",),
    )
    for role, info in answers.items():
        up.add_metric([role], bool(info))
        if info:
            used.add_metric([role], info["used_memory"])
            most.add_metric([role], info.get("maxmemory", 0))
            writes.add_metric([role], info.get("aof_last_write_status", "ok") == "ok")
            evicted.add_metric([role], info["evicted_keys"])
            refused.add_metric([role], info["rejected_connections"])
    yield from (up, used, most, writes, evicted, refused)
