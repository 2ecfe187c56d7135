"""The payment provider's HTTP interface."""

from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from penstock.contracts import PaymentProcess
from penstock.http import ProviderUnavailableError, excerpt, post_once
from penstock.settings import Settings


class Charge(BaseModel):
    """What the provider answers to a charge, as far as it is used here."""

    id: Annotated[str, Field(min_length=1)]


def charge(payment: PaymentProcess, idempotency_key: str, settings: Settings) -> Charge:
    """Charge the amount, or find what was charged under the same key before.

    Raises what `penstock.http.post_once` does; a declined card is a ProviderRefusedError.
    """
    answer = post_once(
        f"{settings.payment_url}/charges",
        {
            "amount": payment.minor_units,
            "currency": payment.currency,
            "reference": payment.order,
        },
        idempotency_key=idempotency_key,
        timeout=settings.http_timeout,
        token=settings.payment_key,
    )
    try:
        return Charge.model_validate_json(answer.content)
    except ValidationError as error:
        # The money may have moved. To ask again is safe, since the provider knows the key, and is
        # the only way to learn the charge's id; to give up would leave that open.
        raise ProviderUnavailableError(
            f"the payment provider's answer names no charge: {excerpt(answer)}"
        ) from error
