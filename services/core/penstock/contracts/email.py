"""The jobs of the email queue."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, EmailStr, Field, StringConstraints, model_validator

from penstock.contracts.base import Contract, Line, ShortLine
from penstock.contracts.files import StoredFile

# What each template needs to be filled in; the email service keeps a folder of the same names.
TEMPLATES: dict[str, frozenset[str]] = {
    "notification": frozenset({"name", "title", "message"}),
    "receipt": frozenset({"name", "order", "amount", "currency"}),
    "welcome": frozenset({"name"}),
}


def _has_no_encoded_word(address: str) -> str:
    # Mail software decodes it wherever it stands in a header, and it can hold a line break.
    if "=?" in address:
        raise ValueError("must not contain =?, which begins an encoded word (RFC 2047)")
    return address


Address = Annotated[EmailStr, Field(max_length=254), AfterValidator(_has_no_encoded_word)]
Recipients = Annotated[list[Address], Field(max_length=50)]
Body = Annotated[str, StringConstraints(min_length=1, max_length=500_000)]


class EmailContent(Contract):
    """One mail but for its attachments: a text, an HTML body or both, or a template with what it
    needs."""

    to: Annotated[Recipients, Field(min_length=1)]
    cc: Recipients = []
    bcc: Recipients = []
    reply_to: Address | None = None
    subject: Annotated[Line, Field(min_length=1, max_length=500)]
    text: Body | None = Field(default=None, repr=False)
    html: Body | None = Field(default=None, repr=False)
    template: Literal["notification", "receipt", "welcome"] | None = None
    context: dict[str, Annotated[str, Field(max_length=10_000)]] = Field(default={}, repr=False)

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if self.template is None:
            if self.text is None and self.html is None:
                raise ValueError("needs text, html or template")
            if self.context:
                raise ValueError("context goes with template")
        elif self.text is not None or self.html is not None:
            raise ValueError("has a template, so text and html must be left out")
        else:
            wanted = TEMPLATES[self.template]
            if self.context.keys() != wanted:
                raise ValueError(
                    f"the template {self.template} wants exactly these in context: "
                    + ", ".join(sorted(wanted))
                )
        return self


class EmailSend(EmailContent):
    """Send one mail; each attachment goes out under its `name`.

    A retry or a redelivery sends the same mail with the same Message-ID.
    """

    attachments: Annotated[list[StoredFile], Field(max_length=20)] = []


class EmailSent(Contract):
    """What the mail server accepted."""

    message_id: str
    recipients: int
    size: int


class NotificationContent(Contract):
    """What a user is to be told."""

    user_id: Annotated[int, Field(ge=1, le=2**31 - 1)]
    title: ShortLine
    message: Annotated[str, StringConstraints(min_length=1, max_length=10_000), Field(repr=False)]


class NotificationSend(NotificationContent):
    """Tell a user something, through the notification provider or else by mail.

    `name` and `email` are the user's own at the time of the request, so that the worker needs no
    database.
    """

    name: str = Field(repr=False)
    email: str = Field(repr=False)


class NotificationSent(Contract):
    """How the user was told."""

    user_id: int
    channel: Literal["provider", "mail"]
