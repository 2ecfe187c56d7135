"""The application factory."""

from flask import Flask

from penstock import storage
from penstock.backlog import Backlog
from penstock.conventions import lasting_broker
from penstock.database import Database
from penstock.dead_letters import DeadLetters
from penstock.producer import IMPATIENT, Producer
from penstock.records import Records
from penstock.settings import Settings, get_settings
from penstock.stack import make_app
from penstock_web import (
    articles,
    auth,
    cache,
    dead_letters,
    files,
    health,
    images,
    jobs,
    metrics,
    problems,
    queues,
    stats,
    users,
)
from penstock_web.services import Services

# Room for a multipart request's own lines around the file.
OVERHEAD = 64 * 1024
# Seconds that a request waits for the job records: without them a job is accepted all the same.
RECORDS_TIMEOUT = 0.4


def create_app(settings: Settings | None = None) -> Flask:
    """Return the web application; ends the process with exit code 2 when no API key is set."""
    settings = settings or get_settings()
    operator_key = settings.operator_key
    keys = auth.Keys(
        auth.required_key(settings), operator_key.get_secret_value() if operator_key else None
    )
    celery = make_app(settings)
    records = Records.connect(
        settings,
        lambda: lasting_broker(celery, **IMPATIENT),
        timeout=RECORDS_TIMEOUT,
        retries=0,
    )
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = settings.upload_max + OVERHEAD
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["penstock"] = Services(
        settings=settings,
        celery=celery,
        records=records,
        producer=Producer(celery, records),
        dead_letters=DeadLetters.connect(settings),
        backlog=Backlog.connect(settings, records),
        database=Database(settings.database(), pool_size=16),
        files=storage.connect(settings),
    )
    cache.init_app(app, settings, keys)
    metrics.init_app(app)
    problems.init_app(app)
    auth.init_app(app, keys)
    for part in (
        articles,
        users,
        stats,
        cache,
        jobs,
        queues,
        dead_letters,
        images,
        files,
        health,
        metrics,
    ):
        app.register_blueprint(part.blueprint)
    return app
