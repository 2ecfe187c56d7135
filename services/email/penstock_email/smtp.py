"""Handing a mail to the mail server."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from penstock.settings import Settings
from penstock_email.message import Mail


class MailServerUnavailableError(Exception):
    """The mail server may take the mail later; whether it has done so now is not known."""


class MailNotTakenError(MailServerUnavailableError):
    """The mail server cannot be reached, or cannot take the mail for now (an answer 4xx)."""


class MailRefusedError(Exception):
    """The mail server will not take the mail, however often it is tried (an answer 5xx)."""


def deliver(mail: Mail, settings: Settings) -> None:
    """Return when the mail server has taken the mail for every recipient.

    It has taken it for none when this raises MailRefusedError or MailNotTakenError. With a plain
    MailServerUnavailableError it may have, since it never gave its last answer, or none that can be
    understood: SMTP has no transactions, and the Message-ID, the same on every attempt, is what
    tells a copy.
    """
    where = f"the mail server {settings.smtp_host}:{settings.smtp_port}"
    with _errors_told_apart(where), _session(settings) as server:
        _hand_over(server, mail, where)


@contextmanager
def _session(settings: Settings) -> Iterator[smtplib.SMTP]:
    """Connect, encrypt and sign in, as the settings say."""
    host, port, timeout = settings.smtp_host, settings.smtp_port, settings.smtp_timeout
    # Given explicitly, since smtplib's own default verifies no certificate.
    tls = ssl.create_default_context()
    server = (
        smtplib.SMTP_SSL(host, port, timeout=timeout, context=tls)
        if settings.smtp_security == "tls"
        else smtplib.SMTP(host, port, timeout=timeout)
    )
    try:
        if settings.smtp_security == "starttls":
            server.starttls(context=tls)
        if settings.smtp_username:
            password = settings.smtp_password
            server.login(settings.smtp_username, password.get_secret_value() if password else "")
        yield server
    finally:
        # The answer is not waited for: it changes nothing, and a server that hangs would hold the
        # job until its time limit although the mail was taken.
        with suppress(OSError):
            server.putcmd("QUIT")
        server.close()


def _hand_over(server: smtplib.SMTP, mail: Mail, where: str) -> None:
    """Give the mail to the server for all recipients or for none.

    `smtplib.SMTP.send_message` goes on when some are refused; a mail that went to the others could
    not be tried again without reaching them twice.
    """
    server.ehlo_or_helo_if_needed()
    options = []
    if server.has_extn("size"):
        options.append(f"SIZE={len(mail.content)}")
    if mail.international:
        options += ["SMTPUTF8", "BODY=8BITMIME"]
    code, answer = server.mail(mail.sender, options)
    if code != 250:
        raise smtplib.SMTPSenderRefused(code, answer, mail.sender)
    answers = {recipient: server.rcpt(recipient) for recipient in mail.recipients}
    refused = {who: said for who, said in answers.items() if said[0] not in {250, 251}}
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)
    try:
        code, answer = server.data(mail.content)
    except smtplib.SMTPResponseException:
        raise
    except OSError as error:
        # Its other errors are of this kind too. By now the server may have the mail.
        raise MailServerUnavailableError(f"{where} was lost with the mail: {error}") from error
    if 400 <= code < 600:
        raise smtplib.SMTPDataError(code, answer)
    if code != 250:
        said = _said(code, answer)
        raise MailServerUnavailableError(f"{where} gave the mail an answer of its own: {said}")


@contextmanager
def _errors_told_apart(where: str) -> Iterator[None]:
    """Turn smtplib's errors into those of this module; all of them come before the mail is given.

    Answers 4xx are transient and 5xx permanent (RFC 5321, section 4.2.1).
    """
    try:
        yield
    except smtplib.SMTPServerDisconnected as error:
        raise MailNotTakenError(f"{where}: {error}") from error
    except smtplib.SMTPRecipientsRefused as error:
        said = "; ".join(f"{who}: {_said(*answer)}" for who, answer in error.recipients.items())
        codes = [code for code, _ in error.recipients.values()]
        raise _verdict(codes)(f"{where} refused {said}") from error
    except smtplib.SMTPResponseException as error:
        said = _said(error.smtp_code, error.smtp_error)
        raise _verdict([error.smtp_code])(f"{where} answered {said}") from error
    except smtplib.SMTPException as error:
        raise MailRefusedError(f"{where}: {error}") from error
    except OSError as error:
        raise MailNotTakenError(f"{where} cannot be reached: {error}") from error


def _verdict(codes: list[int]) -> type[Exception]:
    """Return the error for a mail that was answered so; one permanent answer makes it permanent."""
    transient = all(400 <= code < 500 for code in codes)
    return MailNotTakenError if transient else MailRefusedError


def _said(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
