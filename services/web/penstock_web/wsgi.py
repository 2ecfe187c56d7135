"""The application that Gunicorn serves."""

from penstock_web import create_app

app = create_app()
