"""The application for a WSGI server; see `penstock_web.asgi` for what is served by default."""

from penstock_web import create_app

app = create_app()
