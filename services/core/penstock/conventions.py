"""What Penstock makes of a Celery app. The numbers come from the catalogue and the settings."""

import traceback
from importlib import import_module
from typing import Any, cast

from celery import Celery, signals
from kombu import Queue as CeleryQueue

from penstock import catalogue, log, reach, states
from penstock.heartbeat import WorkerHeartbeat
from penstock.records import Records
from penstock.settings import Settings, stop
from penstock.task import JobTask

# A message that is not acknowledged within this time is taken to be lost and is delivered again,
# so it must be longer than any job runs and any retry waits.
VISIBILITY_TIMEOUT = 3600


def apply(app: Celery, settings: Settings) -> None:
    """Configure `app` in place; see `penstock.install`."""
    records = Records.connect(settings)
    task_class = type("JobTask", (JobTask,), {"settings": settings, "records": records})
    app.task_cls = cast("Any", task_class)
    app.steps["consumer"].add(WorkerHeartbeat)
    app.conf.update(
        broker_url=settings.redis("broker"),
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT,
            # One list for each queue instead of four: no priorities are used.
            "priority_steps": [0],
            # Without a limit a half-open connection would hold a web request for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 1,
            "socket_keepalive": True,
        },
        result_backend=settings.redis("results"),
        result_backend_transport_options={"retry_policy": {"max_retries": 2, "timeout": 2.0}},
        result_expires=settings.records_ttl,
        # The job's record is the answer; a result beside it would cost a subscription per message.
        task_ignore_result=True,
        task_queues=[CeleryQueue(queue.name) for queue in catalogue.QUEUES],
        task_create_missing_queues=False,
        task_routes={job: {"queue": queue} for job, queue in catalogue.QUEUE_OF.items()},
        task_annotations={
            job.name: {
                "backoff": job.backoff,
                "max_retries": job.backoff.retries,
                "soft_time_limit": job.soft_limit,
                "time_limit": job.hard_limit,
            }
            for job in catalogue.BY_JOB.values()
        },
        # A message leaves the broker when its job has ended, not when it begins.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
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
        queues = _queues_of(options.get("queues"))
        reach.require_redis(settings, "broker")
        reach.require_redis(settings, "results")
        if any(queue.database for queue in queues):
            reach.require_database(settings)
        conf.worker_concurrency = max(queue.concurrency for queue in queues)
        for queue in queues:
            _import_handlers(queue)
        # A worker without --queues would otherwise listen where it has no handlers.
        app.amqp.queues.select([queue.name for queue in queues])

    @signals.beat_init.connect(weak=False)
    def _prepare_beat(**_: Any) -> None:
        reach.require_redis(settings, "broker")

    states.connect()


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
