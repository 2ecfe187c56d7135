"""Putting a job on its queue, from the web tier or any other process."""

from contextlib import suppress
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import BaseModel
from redis import RedisError

from penstock import catalogue
from penstock.records import Records


class BrokerUnavailableError(Exception):
    """The broker did not take the job, so it was not accepted."""


def new_id() -> str:
    """Return an id for a job: random, so that knowing one says nothing about another."""
    return str(uuid4())


def submit(app: Celery, records: Records, job: BaseModel, job_id: str | None = None) -> str:
    """Queue `job`, an instance of one of the catalogue's contracts, and return its id.

    The handler is named, not imported. Raises BrokerUnavailableError at once, not after Celery's
    retries, since a client waits for the answer. When only the records are down the job is
    accepted, and its record begins when it does.
    """
    declared = catalogue.BY_CONTRACT[type(job)]
    job_id = job_id or new_id()
    with suppress(RedisError):
        records.open(job_id, declared.name, catalogue.QUEUE_OF[declared.name])
    try:
        app.send_task(
            declared.name,
            kwargs={"job": job.model_dump(mode="json")},
            task_id=job_id,
            retry=False,
            # Celery would subscribe to the result here, and wait for a result store that is down.
            ignore_result=True,
        )
    except OperationalError as error:
        records.forget(job_id)
        raise BrokerUnavailableError(str(error)) from error
    return job_id
