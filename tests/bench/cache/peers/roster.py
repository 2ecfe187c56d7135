"""The peers: how the servers of each are started, with two processes on a port."""

from dataclasses import dataclass

PROCESSES = 2
THREADS = 8
_PEERS = "bench.cache.peers"
_GUNICORN = (
    f"gunicorn --workers {PROCESSES} --keep-alive 75 --reuse-port --no-control-socket"
    " --bind 127.0.0.1:{port}"
)
_GTHREAD = f"{_GUNICORN} --worker-class gthread --threads {THREADS}"
_UVICORN = f"python -m uvicorn --workers {PROCESSES} --log-level warning --port {{port}}"
# With the settings that Penstock runs with, so that they are no part of the difference; but for
# replacing processes after so many requests, which would fall into some measurements.
_AS_PENSTOCK = (
    "gunicorn --config python:penstock_web.gunicorn_conf --max-requests 0 --bind 127.0.0.1:{port}"
)
# The same by WSGI: on threads, and on greenlets.
_ON_THREADS = f"{_AS_PENSTOCK} --worker-class gthread --threads {THREADS}"
_ON_GREENLETS = f"{_AS_PENSTOCK} --worker-class gevent"
_ASGI_APP = "penstock_web.asgi:app"
_WSGI_APP = "penstock_web.wsgi:app"


@dataclass(frozen=True)
class Peer:
    """A server, by its command, and which of the measurements it can be asked for."""

    name: str
    command: str
    misses: bool = True
    not_modified: bool = False


PENSTOCK = Peer("penstock", f"{_AS_PENSTOCK} {_ASGI_APP}", not_modified=True)
CONSTANT = Peer("constant bytes", f"{_AS_PENSTOCK} {_PEERS}.constant:asgi", misses=False)
THREADED = Peer("penstock gthread", f"{_ON_THREADS} {_WSGI_APP}", not_modified=True)
NGINX = Peer("nginx static", "nginx -c {folder}/nginx.conf", misses=False, not_modified=True)
PEERS = [
    PENSTOCK,
    CONSTANT,
    THREADED,
    Peer("constant gthread", f"{_ON_THREADS} {_PEERS}.constant:wsgi", misses=False),
    Peer("Flask-Caching", f"{_GTHREAD} {_PEERS}.with_flask_caching:app"),
    Peer("Flask uncached", f"{_GTHREAD} {_PEERS}.uncached:app"),
    Peer("fastapi-cache2", f"{_UVICORN} --no-access-log {_PEERS}.with_fastapi_cache:app"),
    Peer("cashews", f"{_UVICORN} --no-access-log {_PEERS}.with_cashews:app"),
    NGINX,
]

# Penstock's application on each worker class of Gunicorn's that can serve it.
WORKER_CLASSES = [
    Peer("gthread", THREADED.command),
    Peer("gevent", f"{_ON_GREENLETS} {_WSGI_APP}"),
    Peer("asgi", PENSTOCK.command),
]

# As many threads as clients, so that nobody waits for anything but the computation.
_ROOM = f"{_GUNICORN} --worker-class gthread --threads 32"
STAMPEDED = [
    Peer("penstock", f"{_ROOM} {_PEERS}.with_penstock:app"),
    Peer("Flask-Caching", f"{_ROOM} {_PEERS}.with_flask_caching:app"),
    Peer("dogpile.cache", f"{_ROOM} {_PEERS}.with_dogpile:app"),
    Peer("fastapi-cache2", f"{_UVICORN} --no-access-log {_PEERS}.with_fastapi_cache:app"),
    Peer("cashews", f"{_UVICORN} --no-access-log {_PEERS}.with_cashews:app"),
]
