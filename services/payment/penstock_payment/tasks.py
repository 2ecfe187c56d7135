"""The handler of the payment queue."""

from celery import shared_task

from penstock.contracts import PaymentProcess, PaymentProcessed
from penstock.http import (
    ProviderNotReachedError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from penstock.task import JobTask
from penstock_payment.provider import charge

# Seconds for which the provider is relied on to remember the key of a charge. Within them an
# uncertain charge is asked for again, which finds it if it was made; later it might be made twice.
KEY_KEPT = 24 * 3600


# Celery's types know its own Task only, not the class that `penstock.install` puts in its place.
@shared_task(  # type: ignore[arg-type]
    name="payment.process", bind=True, pydantic=True, autoretry_for=(ProviderUnavailableError,)
)
def process(self: JobTask, job: PaymentProcess) -> PaymentProcessed:
    """Charge an amount once: the job's id is the key that every attempt gives the provider."""
    charge_id = self.once(
        "charge",
        lambda: charge(job, self.job_id, self.settings).id,
        released_by=(ProviderNotReachedError, ProviderRefusedError),
        repeatable=KEY_KEPT,
    )
    return PaymentProcessed(charge_id=charge_id, amount=job.amount, currency=job.currency)
