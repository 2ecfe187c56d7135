"""The application for an ASGI server, such as Gunicorn's worker class asgi."""

from penstock_web.cache import cache
from penstock_web.wsgi import app as flask_app

app = cache.asgi(flask_app, threads=8)
