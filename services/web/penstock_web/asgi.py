"""The application that Gunicorn serves, by its worker class asgi."""

from penstock_web.cache import cache
from penstock_web.wsgi import app as flask_app

# How many requests that are no hits a process works on at the same time.
THREADS = 8

app = cache.asgi(flask_app, threads=THREADS)
