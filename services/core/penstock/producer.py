"""Putting a job on its queue, for a client that waits for the answer."""

from time import time
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.pools import ProducerPool
from pydantic import BaseModel
from redis.exceptions import ResponseError

from penstock import catalogue
from penstock.clock import BrokerClock
from penstock.contracts import shown
from penstock.gate import AlreadyAcceptedError, BrokerUnavailableError, Gate, LateError, Once
from penstock.records import Records

# Seconds to wait for the broker, to connect and for each answer. The first that does not come ends
# it, so at worst a client is told after twice as long.
PATIENCE = 0.45
IMPATIENT = {
    "socket_timeout": PATIENCE,
    "socket_connect_timeout": PATIENCE,
    # By default kombu goes on trying to connect for 4 s.
    "max_retries": 0,
}
# Seconds within which the broker must have queued the job, which leaves some for its answer.
QUEUED_WITHIN = 0.35
# Seconds for which a job that was accepted before may lack its record because the broker's answer
# or its client was lost. Later it has ended as a rule, and its record may have been evicted.
UNHEARD_FOR = 3600
# Jobs that can be brought at the same time; a process of the web tier has fewer threads.
CONNECTIONS = 32


def new_id() -> str:
    """Return an id for a job: random, so that knowing one says nothing about another."""
    return str(uuid4())


class Producer:
    """Brings jobs to the queues of `app`, on connections of its own that do not wait long."""

    def __init__(self, app: Celery, records: Records) -> None:
        self.app = app
        self.records = records
        self._clock = BrokerClock()
        connection = app.connection_for_write(transport_options=IMPATIENT)
        self._pool = ProducerPool(connection.Pool(CONNECTIONS), limit=CONNECTIONS)

    def submit(self, job: BaseModel, job_id: str | None = None, once: Once | None = None) -> str:
        """Queue `job`, an instance of one of the catalogue's contracts, and return its id.

        The handler is named, not imported. Raises the errors of `penstock.gate`, and then the job
        is not queued: BrokerUnavailableError within a second, QueueFullError, and with `once`
        AlreadyAcceptedError or KeyReusedError. When only the records are down it is accepted, and
        its record is written later.
        """
        declared = catalogue.BY_CONTRACT[type(job)]
        queue = catalogue.BY_QUEUE[catalogue.QUEUE_OF[declared.name]]
        job_id = job_id or new_id()
        # Before a worker can have begun with it.
        queued_at = time()
        gate = Gate(self._clock, job_id, queue.limit, QUEUED_WITHIN, once, ttl=self.records.ttl)
        try:
            self._queue(declared.name, job, gate)
        except AlreadyAcceptedError as known:
            if known.age < UNHEARD_FOR:
                self.records.open(known.job_id, declared.name, queue.name, queued_at - known.age)
            raise
        # After it was queued and not before, so that what is refused leaves no record behind.
        self.records.open(job_id, declared.name, queue.name, queued_at)
        return job_id

    def _queue(self, name: str, job: BaseModel, gate: Gate) -> None:
        try:
            self._publish(name, job, gate)
        except LateError:
            # Its clock was set, or connecting took long; there is a connection now.
            self._clock.forget()
            self._publish(name, job, gate)

    def _publish(self, name: str, job: BaseModel, gate: Gate) -> None:
        try:
            with self._pool.acquire(block=True) as producer:
                self.app.send_task(
                    name,
                    kwargs={"job": job.model_dump(mode="json")},
                    # What Flower shows, which is not all of it.
                    kwargsrepr=shown({"job": job}),
                    task_id=gate.job_id,
                    producer=producer,
                    retry=False,
                    # Celery would subscribe to the result here, and wait for a result store that
                    # is down.
                    ignore_result=True,
                    gate=gate,
                )
        except (OperationalError, ResponseError) as error:
            # The next one may be answered by another server, with another clock.
            self._clock.forget()
            raise BrokerUnavailableError(str(error)) from error
