import re
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Retry
from pydantic import ValidationError
from servers import MailServer, Provider

from penstock.records import Records, State
from penstock.settings import Settings
from penstock.stack import make_app
from penstock.storage import StorageError
from penstock.storage.folder import Folder
from penstock_email.smtp import MailRefusedError, MailServerUnavailableError
from penstock_email.tasks import notify, send

MAIL = {"to": ["ada@example.com"], "bcc": ["eve@example.com"], "subject": "Hello", "text": "Hi"}
NOTICE = {
    "user_id": 7,
    "title": "Gate open",
    "message": "Water < 3 m\nand falling",
    "name": "Ada & Söhne",
    "email": "ada@example.com",
}


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, mail_server: MailServer) -> Settings:
    return Settings(
        broker_url=f"{redis_url}/0",
        results_url=f"{redis_url}/1",
        files=tmp_path / "files",
        smtp_port=mail_server.port,
    )


def run(name: str, job: dict[str, Any], settings: Settings, **options: Any) -> Any:
    """Do the job here and now, with its retries one right after the other."""
    app = make_app(settings)
    return app.tasks[name].apply(kwargs={"job": job}, task_id="job-1", **options)


def test_the_handlers_have_the_names_of_the_catalogue() -> None:
    assert (send.name, notify.name) == ("email.send", "notification.send")


def test_a_mail_with_all_there_is_arrives_and_the_record_says_what_was_sent(
    settings: Settings, mail_server: MailServer
) -> None:
    with Folder(Path(settings.files)).writing("job-1-in/0") as stream:
        stream.write(b"%PDF-1.7")
    attachment = Folder(Path(settings.files)).describe("job-1-in/0", "application/pdf")
    job = MAIL | {"html": "<p>Hi</p>", "attachments": [attachment.model_dump(mode="json")]}
    assert run("email.send", job, settings).state == "SUCCESS"

    (message,), (envelope,) = mail_server.messages, mail_server.mails
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/pdf",
    ]
    (part,) = message.iter_attachments()
    assert part.get_payload(decode=True) == b"%PDF-1.7"
    record = Records.connect(settings).read("job-1")
    assert record is not None
    assert record.state == State.SUCCESS
    assert record.result == {
        "message_id": "<job-1@example.com>",
        "recipients": 2,
        "size": len(envelope.original_content or b""),
    }


def test_a_mail_whose_attachments_are_out_of_reach_is_tried_again_and_one_without_fails(
    settings: Settings, mail_server: MailServer
) -> None:
    attachment = {"key": "job-1-in/0", "name": "a", "content_type": "text/plain", "size": 1}
    job = MAIL | {"attachments": [attachment]}
    away = settings.model_copy(update={"files": "redis://127.0.0.1:1/0"})
    with pytest.raises(Retry) as caught:
        run("email.send", job, away, throw=True)
    assert isinstance(caught.value.exc, StorageError)

    run("email.send", job, settings)
    record = Records.connect(settings).read("job-1")
    assert record is not None
    assert record.state == State.DEAD
    assert "the attachment 'a' is not kept any more" in str(record.error)
    assert mail_server.mails == []


def test_a_template_is_filled_in(settings: Settings, mail_server: MailServer) -> None:
    job = {
        "to": ["ada@example.com"],
        "subject": "Your receipt",
        "template": "receipt",
        "context": {"name": "Ada", "order": "A-1", "amount": "19.90", "currency": "EUR"},
    }
    assert run("email.send", job, settings).state == "SUCCESS"
    (message,) = mail_server.messages
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        assert part is not None
        assert "19.90 EUR" in part.get_content()


def test_a_server_that_puts_the_mail_off_is_tried_again_after_the_catalogues_delay(
    settings: Settings, mail_server: MailServer
) -> None:
    for retry in range(3):
        mail_server.answers["DATA"] = ["451 later"]
        with pytest.raises(Retry) as caught:
            run("email.send", MAIL, settings, retries=retry, throw=True)
        assert isinstance(caught.value.exc, MailServerUnavailableError)
        # backoff: 10 s, doubled with each retry, with full jitter
        assert isinstance(caught.value.when, float)
        assert 0 <= caught.value.when <= 10 * 2**retry


def test_the_mail_that_is_taken_at_last_is_one_mail_with_the_jobs_message_id(
    settings: Settings, mail_server: MailServer
) -> None:
    mail_server.answers["MAIL"] = ["421 closing", "drop"]
    mail_server.answers["eve@example.com"] = ["450 busy"]
    assert run("email.send", MAIL, settings).state == "SUCCESS"
    assert mail_server.attempts == 4
    (message,) = mail_server.messages
    assert message["Message-ID"] == "<job-1@example.com>"


def test_a_job_ends_when_the_catalogues_retries_are_used_up(
    settings: Settings, mail_server: MailServer
) -> None:
    mail_server.answers["DATA"] = ["451 later"] * 10
    result = run("email.send", MAIL, settings)
    assert isinstance(result.result, MailServerUnavailableError)
    assert mail_server.attempts == 1 + 5
    record = Records.connect(settings).read("job-1")
    assert record is not None
    assert record.state == State.DEAD
    assert record.error is not None
    assert "451 later" in record.error


def test_a_mail_that_was_taken_is_not_sent_again(
    settings: Settings, mail_server: MailServer
) -> None:
    first = run("email.send", MAIL, settings).result
    # Delivered once more, because its worker was lost before it had said that the job is done.
    assert run("email.send", MAIL, settings).result == first
    assert mail_server.attempts == 1


def test_a_mail_that_may_have_been_taken_is_sent_again_as_the_same_mail(
    settings: Settings, mail_server: MailServer
) -> None:
    mail_server.answers["DATA"] = ["drop"]
    assert run("email.send", MAIL, settings).state == "SUCCESS"
    assert mail_server.attempts == 2
    (message,) = mail_server.messages
    assert message["Message-ID"] == "<job-1@example.com>"


def test_a_mail_that_is_refused_fails_at_once(settings: Settings, mail_server: MailServer) -> None:
    mail_server.answers["ada@example.com"] = ["550 no such user"]
    result = run("email.send", MAIL, settings)
    assert isinstance(result.result, MailRefusedError)
    assert mail_server.attempts == 1


def test_a_missing_attachment_fails_at_once(settings: Settings, mail_server: MailServer) -> None:
    gone = {"key": "job-1-in/0", "name": "a.pdf", "content_type": "application/pdf", "size": 1}
    result = run("email.send", MAIL | {"attachments": [gone]}, settings)
    assert isinstance(result.result, FileNotFoundError)
    assert mail_server.attempts == 0


def test_a_message_outside_the_contract_fails_at_once(
    settings: Settings, mail_server: MailServer
) -> None:
    result = run("email.send", MAIL | {"subject": "Hello\r\nBcc: eve@example.com"}, settings)
    assert isinstance(result.result, ValidationError)
    assert mail_server.attempts == 0


def test_a_notification_without_a_provider_goes_out_as_mail(
    settings: Settings, mail_server: MailServer
) -> None:
    result = run("notification.send", NOTICE, settings)
    assert result.result == {"user_id": 7, "channel": "mail"}
    (message,), (envelope,) = mail_server.messages, mail_server.mails
    assert envelope.rcpt_tos == ["ada@example.com"]
    assert message["Subject"] == "Gate open"
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert "Hello Ada & Söhne" in text.get_content()
    assert html is not None
    assert "Water &lt; 3 m<br>and falling" in html.get_content()


def test_a_notification_goes_to_the_provider_where_there_is_one(
    settings: Settings, mail_server: MailServer, provider: Provider
) -> None:
    settings.notification_url = f"{provider.url}/notify"
    result = run("notification.send", NOTICE, settings)
    assert result.result == {"user_id": 7, "channel": "provider"}
    (request,) = provider.requests
    assert request.path == "/notify"
    assert request.headers["Idempotency-Key"] == "job-1"
    assert request.body == NOTICE
    assert mail_server.mails == []


def test_a_notification_that_was_taken_is_not_given_again(
    settings: Settings, provider: Provider
) -> None:
    settings.notification_url = provider.url
    first = run("notification.send", NOTICE, settings).result
    assert run("notification.send", NOTICE, settings).result == first
    assert len(provider.requests) == 1


def test_a_provider_that_is_unavailable_is_tried_again_after_the_catalogues_delay(
    settings: Settings, provider: Provider
) -> None:
    settings.notification_url = provider.url
    provider.answers = [(503, {}), (429, {})]
    for retry, delay in enumerate((60, 120)):
        with pytest.raises(Retry) as caught:
            run("notification.send", NOTICE, settings, retries=retry, throw=True)
        assert caught.value.when == delay
    assert run("notification.send", NOTICE, settings, retries=2).state == "SUCCESS"
    assert [request.headers["Idempotency-Key"] for request in provider.requests] == ["job-1"] * 3


def test_a_notification_that_the_provider_refuses_fails_at_once(
    settings: Settings, mail_server: MailServer, provider: Provider
) -> None:
    settings.notification_url = provider.url
    provider.answers = [(400, {"error": "no such channel"})]
    result = run("notification.send", NOTICE, settings)
    assert "answered 400 Bad Request" in str(result.result)
    assert "no such channel" in str(result.result)
    assert len(provider.requests) == 1
    assert mail_server.mails == []


def test_a_notification_from_before_it_named_its_user_fails_at_once_and_says_so(
    settings: Settings, mail_server: MailServer
) -> None:
    job = {field: NOTICE[field] for field in ("user_id", "title", "message")}
    run("notification.send", job, settings)
    record = Records.connect(settings).read("job-1")
    assert record is not None
    assert record.state == State.DEAD
    assert re.search(r"\bname\b.*\bField required\b.*\bemail\b", str(record.error), re.DOTALL)
    assert mail_server.attempts == 0
