"""A mail as it goes over the wire, made from a job's message."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP, Policy
from typing import Any

from email_validator import validate_email
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import NameEmail

from penstock.contracts import EmailSend, StoredFile
from penstock.storage import Files


class TextHeader(BaseHeader):
    """A header that says what it was given to say, encoded by RFC 2047 where that is needed.

    The email package's own class for it takes a text that looks like an encoded word for one and
    decodes it, by which a line break can come in as `=0A`; and in Python 3.11 it loses spaces where
    it folds.
    """

    max_count = 1

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        """Take `value` as it is."""
        kwds.update(decoded=value, parse_tree=None)

    def fold(self, *, policy: Policy) -> str:
        """Return the header's lines."""
        charset = "us-ascii" if self.isascii() and "=?" not in self else "utf-8"
        value = Header(self, charset, header_name=self.name)
        return f"{self.name}: {value.encode(linesep=policy.linesep)}{policy.linesep}"


HEADERS = HeaderRegistry()
HEADERS.map_to_type("subject", TextHeader)
# Bodies in 7-bit encodings, so that every server takes them whatever extensions it has.
POLICY = SMTP.clone(cte_type="7bit", header_factory=HEADERS)

TEMPLATES = Environment(
    loader=PackageLoader("penstock_email"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Mail:
    """The envelope and what is in it.

    `international` says that an address has a local part outside ASCII, which a server takes only
    with the extension SMTPUTF8 (RFC 6531).
    """

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    international: bool
    content: bytes


def compose(job: EmailSend, job_id: str, mail_from: NameEmail, files: Files) -> Mail:
    """Return the mail that `job` describes, with a Message-ID that every attempt shares.

    Raises FileNotFoundError for an attachment that is not kept any more, and ValueError for what
    cannot stand in a header, such as a line break.
    """
    sender = _mailbox(mail_from.email, mail_from.name)
    to, cc, bcc = ([_mailbox(each) for each in group] for group in (job.to, job.cc, job.bcc))
    reply_to = [_mailbox(job.reply_to)] if job.reply_to else []
    message_id = f"<{job_id}@{sender.domain}>"

    message = EmailMessage(POLICY)
    message["Message-ID"] = message_id
    message["Date"] = datetime.now(UTC)
    for header, mailboxes in (("From", [sender]), ("To", to), ("Cc", cc), ("Reply-To", reply_to)):
        if mailboxes:
            message[header] = mailboxes
    message["Subject"] = job.subject
    _write_body(message, *_bodies(job))
    for attachment in job.attachments:
        _attach(message, attachment, files)

    everyone = (sender, *to, *cc, *bcc, *reply_to)
    international = not all(mailbox.username.isascii() for mailbox in everyone)
    return Mail(
        message_id=message_id,
        sender=sender.addr_spec,
        recipients=tuple(dict.fromkeys(mailbox.addr_spec for mailbox in (*to, *cc, *bcc))),
        international=international,
        content=message.as_bytes(policy=POLICY.clone(utf8=international)),
    )


def _mailbox(address: str, name: str = "") -> Address:
    """Return the address with its domain in ASCII (IDNA), as mail servers and the DNS know it."""
    if "=?" in address:
        raise ValueError(f"{address!r} has an encoded word in it, which can hold a line break")
    parts = validate_email(address, check_deliverability=False)
    return Address(name, username=parts.local_part, domain=parts.ascii_domain)


def _bodies(job: EmailSend) -> tuple[str | None, str | None]:
    """Return the text and the HTML body."""
    if job.template is None:
        return job.text, job.html
    return (
        TEMPLATES.get_template(f"{job.template}.txt").render(job.context),
        TEMPLATES.get_template(f"{job.template}.html").render(job.context),
    )


def _write_body(message: EmailMessage, text: str | None, html: str | None) -> None:
    if text is not None:
        message.set_content(text)
    if html is not None and text is not None:
        message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html")


def _attach(message: EmailMessage, attachment: StoredFile, files: Files) -> None:
    main, _, sub = attachment.content_type.partition("/")
    if main in {"message", "multipart"}:
        # These may not be encoded in base64 (RFC 2045, section 6.4), and need not be understood.
        main, sub = "application", "octet-stream"
    try:
        content = files.read(attachment.key)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the attachment {attachment.name!r} is not kept any more: "
            "files are kept for the setting files_ttl"
        ) from error
    # This begins an encoded word, which some readers decode here too, line breaks and all.
    name = attachment.name.replace("=?", "=_")
    message.add_attachment(content, maintype=main, subtype=sub, filename=name)
