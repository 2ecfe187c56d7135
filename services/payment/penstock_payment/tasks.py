"""The handler of the payment queue."""

from celery import shared_task

from penstock.contracts import PaymentProcess, PaymentProcessed
from penstock.http import ProviderUnavailableError
from penstock.task import JobTask
from penstock_payment.provider import charge


# Celery's types know its own Task only, not the class that `penstock.install` puts in its place.
@shared_task(  # type: ignore[arg-type]
    name="payment.process", bind=True, pydantic=True, autoretry_for=(ProviderUnavailableError,)
)
def process(self: JobTask, job: PaymentProcess) -> PaymentProcessed:
    """Charge an amount once: the job's id is the key that every attempt gives the provider."""
    made = charge(job, self.job_id, self.settings)
    return PaymentProcessed(charge_id=made.id, amount=job.amount, currency=job.currency)
