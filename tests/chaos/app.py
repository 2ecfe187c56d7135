"""What `celery --app chaos.app` runs."""

from chaos.jobs import make_app

from penstock.settings import get_settings

app = make_app(get_settings())
