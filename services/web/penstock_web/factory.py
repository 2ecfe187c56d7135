"""The application factory."""

from celery import Celery
from flask import Flask

from penstock import install
from penstock.database import Database
from penstock.records import Records
from penstock.settings import Settings, get_settings
from penstock.storage import Files
from penstock_web import articles, auth, cache, files, health, images, jobs, problems, stats, users
from penstock_web.services import Services

# Room for a multipart request's own lines around the file.
OVERHEAD = 64 * 1024


def create_app(settings: Settings | None = None) -> Flask:
    """Return the web application; ends the process with exit code 2 when no API key is set."""
    settings = settings or get_settings()
    key = auth.required_key(settings)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = settings.upload_max + OVERHEAD
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["penstock"] = Services(
        settings=settings,
        celery=install(Celery("penstock", set_as_current=False), settings),
        records=Records.connect(settings),
        database=Database(settings.database(), pool_size=16),
        files=Files(settings.files),
    )
    cache.init_app(app, settings)
    problems.init_app(app)
    auth.init_app(app, key)
    for part in (articles, users, stats, cache, jobs, images, files, health):
        app.register_blueprint(part.blueprint)
    return app
