"""What the views work with, one of each for an application."""

from dataclasses import dataclass
from typing import cast

from celery import Celery
from flask import current_app

from penstock.backlog import Backlog
from penstock.database import Database
from penstock.dead_letters import DeadLetters
from penstock.producer import Producer
from penstock.records import Records
from penstock.settings import Settings
from penstock.storage import Files


@dataclass(frozen=True)
class Services:
    """The settings and the connections of an application."""

    settings: Settings
    celery: Celery
    records: Records
    dead_letters: DeadLetters
    backlog: Backlog
    producer: Producer
    database: Database
    files: Files


def services() -> Services:
    """Return those of the application that answers the current request."""
    return cast("Services", current_app.extensions["penstock"])
