"""The job of the payment queue."""

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from penstock.contracts.base import Contract, ShortLine

# Digits after the decimal point of each currency that is taken (ISO 4217).
CURRENCIES = {"CHF": 2, "EUR": 2, "GBP": 2, "JPY": 0, "KWD": 3, "PLN": 2, "SEK": 2, "USD": 2}


def _is_written_as_text(value: object) -> object:
    # A JSON number passes through binary floating point on its way and may not be what was meant.
    if not isinstance(value, (str, Decimal)):
        raise ValueError('must be a decimal number written as text, such as "19.90"')
    return value


def _is_known_currency(value: object) -> object:
    if not isinstance(value, str) or value not in CURRENCIES:
        raise ValueError("must be one of " + ", ".join(CURRENCIES))
    return value


Amount = Annotated[
    Decimal,
    BeforeValidator(_is_written_as_text),
    Field(gt=0, max_digits=12, allow_inf_nan=False),
]
Currency = Annotated[str, BeforeValidator(_is_known_currency)]


class PaymentProcess(Contract):
    """Charge an amount once, whatever happens on the way."""

    order: ShortLine
    currency: Currency
    amount: Amount

    @field_validator("amount")
    @classmethod
    def _fits_the_currency(cls, amount: Decimal, info: ValidationInfo) -> Decimal:
        currency = info.data.get("currency")
        exponent = amount.as_tuple().exponent
        if currency and isinstance(exponent, int) and -exponent > CURRENCIES[currency]:
            raise ValueError(f"{currency} has {CURRENCIES[currency]} digits after the point")
        return amount

    @property
    def minor_units(self) -> int:
        """The amount in the currency's smallest unit, as providers take it: 19.90 EUR is 1990."""
        return int(self.amount.scaleb(CURRENCIES[self.currency]))


class PaymentProcessed(Contract):
    """What the provider says it did."""

    charge_id: str
    amount: Decimal
    currency: str
