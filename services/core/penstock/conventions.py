"""What `penstock.install` makes of a Celery app: reliable delivery, on whatever queues it has."""

from collections.abc import Collection
from typing import Any, cast

from celery import Celery, signals
from kombu.utils.imports import symbol_by_name

from penstock import prefork, states, transport
from penstock.broker import Broker
from penstock.drain import Drain
from penstock.effects import Effects, claim_ttl
from penstock.heartbeat import WorkerHeartbeat
from penstock.housekeeping import Housekeeper
from penstock.records import Records
from penstock.settings import Settings, stop
from penstock.task import JobTask

# Seconds that running jobs get when their worker stops, where neither settings nor catalogue say.
GRACE = 20.0


def apply(app: Celery, settings: Settings) -> None:
    """Configure `app` in place; see `penstock.install`."""
    transport.register()
    prefork.register()
    records = Records.connect(settings, lambda: lasting_broker(app))
    effects = Effects(lambda: lasting_broker(app), claim_ttl(settings))
    members = {"settings": settings, "records": records, "effects": effects}
    # The app's own class, as Flask's documentation has one, keeps what it does.
    given = symbol_by_name(cast("str", app.task_cls))
    bases = (given,) if issubclass(given, JobTask) else (JobTask, given)
    app.task_cls = cast("Any", type("JobTask", bases, members))
    app.steps["consumer"].add(WorkerHeartbeat)

    def configure(**_: Any) -> None:
        app.conf.update(_configuration(app))

    # Also when the app is configured after this, which forgets what was set before.
    app.on_after_configure.connect(configure, weak=False)
    configure()

    drains: list[Drain] = []

    @signals.celeryd_after_setup.connect(weak=False)
    def _prepare_worker(instance: Any, **_: Any) -> None:
        if instance.app is app:
            _require_transport(app)
            for task in app.tasks.values():
                if not isinstance(task, JobTask):
                    # One with a base class of its own: it has no records, but loses nothing.
                    task.Request = JobTask.Request
            # Not when it is ready: it may be told to stop while it starts.
            drains.append(Drain(instance, settings.grace or app.conf.get("penstock_grace", GRACE)))

    keepers: list[Housekeeper] = []

    def begin(queues: Collection[str] = ()) -> None:
        if not keepers:
            keepers.append(
                Housekeeper(
                    lasting_broker(app),
                    records,
                    queues=queues,
                    dead_ttl=settings.dead_ttl,
                    dead_max=settings.dead_max,
                )
            )
            keepers[0].start()

    @signals.worker_ready.connect(weak=False)
    def _worker_begins(sender: Any, **_: Any) -> None:
        if sender.app is app:
            begin(app.amqp.queues.consume_from)

    @signals.worker_shutting_down.connect(weak=False)
    def _worker_drains(**_: Any) -> None:
        for drain in drains:
            drain.begin()

    @signals.beat_init.connect(weak=False)
    def _scheduler_begins(sender: Any, **_: Any) -> None:
        if sender.app is app:
            begin()

    @signals.worker_shutdown.connect(weak=False)
    def _worker_ends(sender: Any, **_: Any) -> None:
        if sender.app is app:
            for drain in drains:
                drain.end()
            for keeper in keepers:
                keeper.stop()
            for custody in transport.custodies():
                custody.close()

    states.connect()


def _configuration(app: Celery) -> dict[str, Any]:
    """Return what the guarantees need, whatever the app has set."""
    return {
        "broker_connection_retry_on_startup": True,
        # By default a worker gives up after a hundred tries, and ends where a server that became a
        # replica or is full refuses what it sends while it connects.
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            # One list for each queue instead of four: no priorities are used.
            "priority_steps": [0],
            # Without a limit a half-open connection would hold a web request for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 1,
            "socket_keepalive": True,
            **app.conf.broker_transport_options,
        },
        # A message leaves the broker when its job has ended, not when it begins.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_consumer": "penstock.consumer:Consumer",
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_hijack_root_logger": False,
    }


def _require_transport(app: Celery) -> None:
    """Return when the app's broker is reached by Penstock's transport, or end the process."""
    with app.connection_for_write() as connection:
        if not isinstance(connection.transport, transport.Transport | transport.SentinelTransport):
            stop(
                f"the broker at {connection.as_uri()} is no Redis: set broker_url to redis://,"
                " rediss:// or sentinel://"
            )


def lasting_broker(app: Celery, **transport_options: Any) -> Broker:
    """Return the app's broker, on connections of their own; the options come before the app's."""
    with app.connection_for_write(transport_options=transport_options) as connection:
        channel = cast("transport.Channel", connection.default_channel)
        return channel.lasting_broker()
