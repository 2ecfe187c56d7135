"""The Celery app of every process: `celery --app penstock.app worker --queues email`."""

from celery import Celery

from penstock import install

app = install(Celery("penstock"))
