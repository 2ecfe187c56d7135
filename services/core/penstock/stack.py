"""The Celery app of this stack: the catalogue's queues, routes and limits on `penstock.install`."""

import traceback
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from celery import Celery, signals
from kombu import Connection
from kombu import Queue as CeleryQueue

from penstock import catalogue, health, install, log, reach, roles
from penstock.settings import Settings, stop

# Seconds of a queue's grace that are kept for giving back what has not ended and for stopping.
MARGIN = 10


def make_app(settings: Settings) -> Celery:
    """Return an app that sends the catalogue's jobs, and whose workers can run them."""
    app = install(Celery("penstock", set_as_current=False), settings)
    broker_url = for_celery(settings.redis("broker"))
    app.conf.update(
        broker_url=broker_url,
        # The same as in the URL, where Flower does not look for it.
        broker_use_ssl=Connection(broker_url).ssl,
        result_backend=for_celery(settings.redis("results")),
        # The job's record is the answer; a result beside it would cost a subscription per message.
        task_ignore_result=True,
        result_backend_transport_options={"retry_policy": {"max_retries": 2, "timeout": 2.0}},
        result_expires=settings.records_ttl,
        task_queues=[CeleryQueue(queue.name) for queue in catalogue.QUEUES],
        task_create_missing_queues=False,
        # For Flower, which would otherwise see only what runs after it has asked for events.
        worker_send_task_events=True,
        task_routes={job: {"queue": queue} for job, queue in catalogue.QUEUE_OF.items()},
        task_annotations={
            job.name: {
                "backoff": job.backoff,
                "max_retries": job.backoff.retries,
                "soft_time_limit": job.soft_limit,
                "time_limit": job.hard_limit,
                "uncertain": job.uncertain,
            }
            for job in catalogue.BY_JOB.values()
        },
        beat_schedule={
            job.name: {
                "task": job.name,
                "schedule": job.every,
                "kwargs": {"job": {}},
                # What was not done by the time of the next run need not be done twice then.
                "options": {"expires": job.every, "ignore_result": True},
            }
            for job in catalogue.BY_JOB.values()
            if job.every
        },
        beat_schedule_filename=str(settings.state / "beat"),
        beat_scheduler="penstock_scheduler.scheduler:Scheduler",
    )

    @signals.setup_logging.connect(weak=False)
    def _configure_logging(**_: Any) -> None:
        log.configure(settings)

    @signals.celeryd_init.connect(weak=False)
    def _prepare_worker(instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
        if instance.app is not app:
            return
        # That of an earlier life, where the container is new and what it is in is not.
        health.end()
        queues = _queues_of(options.get("queues"))
        reach.require_redis(settings, "broker")
        reach.require_redis(settings, "results")
        roles.check(settings, "broker", "results")
        if any(queue.database for queue in queues):
            reach.require_database(settings)
        if any(queue.files for queue in queues):
            reach.require_files(settings)
        conf.worker_concurrency = max(queue.concurrency for queue in queues)
        conf.penstock_grace = max(queue.grace for queue in queues) - MARGIN
        for queue in queues:
            _import_handlers(queue)
        # A worker without --queues would otherwise listen where it has no handlers.
        app.amqp.queues.select([queue.name for queue in queues])

    @signals.beat_init.connect(weak=False)
    def _prepare_beat(sender: Any, **_: Any) -> None:
        if sender.app is app:
            health.end()
            reach.require_redis(settings, "broker")
            roles.check(settings, "broker")

    return app


def for_celery(url: str) -> str:
    """Return the URL of a Redis server as Celery knows it, to which a UNIX socket is another."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = parse_qs(parts.query)
    where = urlencode({"virtual_host": query.pop("db", ["0"])[-1], **query}, doseq=True)
    return f"redis+socket://{parts.netloc}{parts.path}?{where}"


def _import_handlers(queue: catalogue.Queue) -> None:
    try:
        import_module(f"{queue.package}.tasks")
    except Exception as error:
        # Celery logs what a signal's receiver raises and starts anyway, here without its handlers.
        traceback.print_exc()
        stop(f"the handlers of the queue {queue.name} cannot be imported: {error}")


def _queues_of(names: str | list[str] | None) -> list[catalogue.Queue]:
    """Return the catalogue's entries for the names given to --queues, or all that can run here."""
    if not names:
        queues = [queue for queue in catalogue.QUEUES if queue.installed]
        if not queues:
            stop("no package with job handlers is installed here, such as penstock_email")
        return queues
    if isinstance(names, str):
        names = names.split(",")
    for name in names:
        if name not in catalogue.BY_QUEUE:
            stop(f"--queues: there is no queue {name!r}, only {', '.join(catalogue.BY_QUEUE)}")
        if not catalogue.BY_QUEUE[name].installed:
            stop(f"--queues: {catalogue.BY_QUEUE[name].package} is not installed here")
    return [catalogue.BY_QUEUE[name] for name in names]
