import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from servers import MailServer

from penstock.contracts import EmailSend
from penstock.settings import Settings
from penstock.storage.folder import Folder
from penstock_email.message import Mail, compose
from penstock_email.smtp import (
    MailNotTakenError,
    MailRefusedError,
    MailServerUnavailableError,
    deliver,
)


def settings_for(server: MailServer, **more: Any) -> Settings:
    return Settings(smtp_host="127.0.0.1", smtp_port=server.port, **more)


def mail_to(*to: str, **fields: Any) -> Mail:
    job = EmailSend(to=list(to), subject="Hello", text="Hello\n.hidden\n", **fields)
    return compose(job, "job-1", Settings().mail_from, Folder(Path("nowhere")))


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_the_mail_arrives_byte_for_byte_in_its_envelope(mail_server: MailServer) -> None:
    mail = mail_to("ada@example.com", cc=["cy@example.com"], bcc=["secret@example.com"])
    deliver(mail, settings_for(mail_server))
    (envelope,) = mail_server.mails
    assert envelope.mail_from == "penstock@example.com"
    assert envelope.rcpt_tos == ["ada@example.com", "cy@example.com", "secret@example.com"]
    assert envelope.original_content == mail.content
    assert f"SIZE={len(mail.content)}" in envelope.mail_options


def test_one_refused_recipient_keeps_the_mail_from_all_and_is_named(
    mail_server: MailServer,
) -> None:
    mail_server.answers["nobody@example.com"] = ["550 5.1.1 no such user"]
    with pytest.raises(MailRefusedError, match=r"nobody@example\.com: 550 5\.1\.1 no such user"):
        deliver(mail_to("ada@example.com", "nobody@example.com"), settings_for(mail_server))
    assert mail_server.mails == []


def test_a_recipient_who_is_put_off_makes_the_mail_wait(mail_server: MailServer) -> None:
    mail_server.answers["grey@example.com"] = ["451 4.7.1 come back later"]
    mail = mail_to("ada@example.com", "grey@example.com")
    with pytest.raises(MailServerUnavailableError, match=r"grey@example\.com: 451"):
        deliver(mail, settings_for(mail_server))
    assert mail_server.mails == []
    deliver(mail, settings_for(mail_server))
    assert len(mail_server.mails) == 1


def test_a_refused_recipient_counts_for_more_than_one_who_is_put_off(
    mail_server: MailServer,
) -> None:
    mail_server.answers["grey@example.com"] = ["451 later"]
    mail_server.answers["nobody@example.com"] = ["550 no such user"]
    with pytest.raises(MailRefusedError, match=r"grey.*451.*nobody.*550"):
        deliver(mail_to("grey@example.com", "nobody@example.com"), settings_for(mail_server))


@pytest.mark.parametrize("command", ["MAIL", "DATA"])
def test_an_answer_4xx_is_transient_and_5xx_permanent(
    mail_server: MailServer, command: str
) -> None:
    mail_server.answers[command] = ["452 4.3.1 disk full", "552 5.3.4 too big"]
    with pytest.raises(MailServerUnavailableError, match=r"answered 452 4\.3\.1 disk full"):
        deliver(mail_to("ada@example.com"), settings_for(mail_server))
    with pytest.raises(MailRefusedError, match=r"answered 552 5\.3\.4 too big"):
        deliver(mail_to("ada@example.com"), settings_for(mail_server))


@pytest.mark.parametrize("command", ["MAIL", "ada@example.com"])
def test_a_connection_that_is_lost_before_the_mail_is_given_is_transient(
    mail_server: MailServer, command: str
) -> None:
    mail_server.answers[command] = ["drop"]
    with pytest.raises(MailNotTakenError):
        deliver(mail_to("ada@example.com"), settings_for(mail_server))


@pytest.mark.parametrize("answer", ["drop", "what?", "299 as you like"])
def test_without_an_answer_to_the_mail_that_can_be_understood_nobody_knows(
    mail_server: MailServer, answer: str
) -> None:
    mail_server.answers["DATA"] = [answer]
    with pytest.raises(MailServerUnavailableError, match=r"127\.0\.0\.1") as caught:
        deliver(mail_to("ada@example.com"), settings_for(mail_server))
    assert not isinstance(caught.value, MailNotTakenError)


@pytest.mark.parametrize("command", ["MAIL", "grey@example.com", "DATA"])
def test_a_mail_that_is_put_off_was_not_taken(mail_server: MailServer, command: str) -> None:
    mail_server.answers[command] = ["451 later"]
    with pytest.raises(MailNotTakenError):
        deliver(mail_to("grey@example.com"), settings_for(mail_server))


def test_a_server_that_is_not_there_is_transient_and_named() -> None:
    with MailServer() as server:
        settings = settings_for(server)
    where = rf"127\.0\.0\.1:{settings.smtp_port} cannot be reached"
    with pytest.raises(MailNotTakenError, match=where):
        deliver(mail_to("ada@example.com"), settings)


@pytest.mark.parametrize("answer", ["drop", "500 5.5.1 what?"])
def test_a_mail_that_was_taken_stays_sent_however_the_server_parts(
    mail_server: MailServer, answer: str
) -> None:
    mail_server.answers["QUIT"] = [answer]
    deliver(mail_to("ada@example.com"), settings_for(mail_server))
    assert len(mail_server.mails) == 1


def test_an_address_outside_ascii_reaches_a_server_that_knows_them(mail_server: MailServer) -> None:
    deliver(mail_to("jörg@example.com"), settings_for(mail_server))
    (envelope,) = mail_server.mails
    assert envelope.rcpt_tos == ["jörg@example.com"]
    assert "SMTPUTF8" in envelope.mail_options


def test_an_address_outside_ascii_is_refused_where_the_server_does_not_know_them() -> None:
    with (
        MailServer(enable_SMTPUTF8=False) as server,
        pytest.raises(MailRefusedError, match="SMTPUTF8"),
    ):
        deliver(mail_to("jörg@example.com"), settings_for(server))


def test_a_right_sign_in_over_starttls_is_taken(certificate: ssl.SSLContext) -> None:
    with MailServer(tls_context=certificate, require_starttls=True, auth_required=True) as server:
        settings = settings_for(
            server, smtp_security="starttls", smtp_username="app", smtp_password="correct"
        )
        deliver(mail_to("ada@example.com"), settings)
        assert server.signed_in == [b"app"]
        assert len(server.mails) == 1


def test_a_refused_sign_in_is_permanent(certificate: ssl.SSLContext) -> None:
    with MailServer(tls_context=certificate, auth_required=True) as server:
        settings = settings_for(
            server, smtp_security="starttls", smtp_username="app", smtp_password="wrong"
        )
        with pytest.raises(MailRefusedError, match="535"):
            deliver(mail_to("ada@example.com"), settings)


def test_a_server_without_starttls_never_sees_the_password(mail_server: MailServer) -> None:
    settings = settings_for(
        mail_server, smtp_security="starttls", smtp_username="app", smtp_password="correct"
    )
    with pytest.raises(MailRefusedError, match="STARTTLS"):
        deliver(mail_to("ada@example.com"), settings)
    assert mail_server.signed_in == []


def test_mail_goes_out_over_tls(certificate: ssl.SSLContext) -> None:
    with MailServer(tls=certificate) as server:
        deliver(mail_to("ada@example.com"), settings_for(server, smtp_security="tls"))
        assert len(server.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_is_not_trusted_is_not_accepted(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    options = {"tls": certificate} if security == "tls" else {"tls_context": certificate}
    with MailServer(**options) as server:
        with pytest.raises(MailServerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            deliver(mail_to("ada@example.com"), settings_for(server, smtp_security=security))
        assert server.mails == []
