"""The app of this process: `celery --app penstock.app worker --queues email`."""

from penstock.settings import get_settings
from penstock.stack import make_app

app = make_app(get_settings())
