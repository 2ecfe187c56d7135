from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from pydantic import NameEmail, ValidationError

from penstock.contracts import EmailSend, StoredFile
from penstock.settings import Settings
from penstock.storage.folder import Folder
from penstock_email.message import Mail, compose

SENDER = NameEmail("Penstock", "penstock@example.com")


def mail_of(folder: Path, sender: NameEmail = SENDER, **fields: Any) -> Mail:
    usual: dict[str, Any] = {"to": ["ada@example.com"], "subject": "Hello", "text": "Hello Ada\n"}
    return compose(EmailSend(**usual | fields), "job-1", sender, Folder(folder))


def parse(mail: Mail) -> EmailMessage:
    message = BytesParser(policy=default).parsebytes(mail.content)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert isinstance(part, EmailMessage)
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def stored(folder: Path, name: str, content: bytes, content_type: str) -> StoredFile:
    files = Folder(folder)
    with files.writing("job-1-in/0") as stream:
        stream.write(content)
    return files.describe("job-1-in/0", content_type).model_copy(update={"name": name})


def test_text_alone_is_the_body(tmp_path: Path) -> None:
    message = parse(mail_of(tmp_path))
    assert message.get_content_type() == "text/plain"
    assert body(message, "plain") == "Hello Ada\n"


def test_html_alone_is_the_body(tmp_path: Path) -> None:
    message = parse(mail_of(tmp_path, text=None, html="<p>Hello</p>\n"))
    assert message.get_content_type() == "text/html"
    assert body(message, "html") == "<p>Hello</p>\n"


def test_text_and_html_are_alternatives_with_html_last_as_the_preferred_one(tmp_path: Path) -> None:
    message = parse(mail_of(tmp_path, html="<p>Hello</p>\n"))
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_an_attachment_keeps_its_bytes_its_type_and_a_name_outside_ascii(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    attachment = stored(tmp_path, "Übersicht 2025.pdf", content, "application/pdf")
    message = parse(mail_of(tmp_path, html="<p>Hello</p>", attachments=[attachment]))
    assert message.get_content_type() == "multipart/mixed"
    assert body(message, "plain") == "Hello Ada\n"
    (part,) = message.iter_attachments()
    assert part.get_filename() == "Übersicht 2025.pdf"
    assert part.get_content_type() == "application/pdf"
    assert part.get_payload(decode=True) == content


@pytest.mark.parametrize("content_type", ["message/rfc822", "multipart/mixed"])
def test_an_attachment_that_is_itself_a_mail_goes_out_as_plain_bytes(
    tmp_path: Path, content_type: str
) -> None:
    content = b"Subject: inner\r\n\r\nFrom within\r\n"
    attachment = stored(tmp_path, "inner.eml", content, content_type)
    (part,) = parse(mail_of(tmp_path, attachments=[attachment])).iter_attachments()
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_payload(decode=True) == content


def test_an_attachment_that_is_not_kept_any_more_is_named(tmp_path: Path) -> None:
    gone = StoredFile(key="job-1-in/0", name="bill.pdf", content_type="application/pdf", size=1)
    with pytest.raises(FileNotFoundError, match=r"'bill\.pdf'.*files_ttl"):
        mail_of(tmp_path, attachments=[gone])


def test_the_headers_are_those_of_the_job(tmp_path: Path) -> None:
    message = parse(
        mail_of(
            tmp_path,
            to=["ada@example.com", "bob@example.com"],
            cc=["cy@example.com"],
            reply_to="desk@example.com",
        )
    )
    assert message["From"] == "Penstock <penstock@example.com>"
    assert message["To"] == "ada@example.com, bob@example.com"
    assert message["Cc"] == "cy@example.com"
    assert message["Reply-To"] == "desk@example.com"
    assert message["Subject"] == "Hello"
    assert message["Date"].datetime.tzinfo is not None


def test_bcc_is_in_the_envelope_and_nowhere_in_the_mail(tmp_path: Path) -> None:
    mail = mail_of(tmp_path, cc=["cy@example.com"], bcc=["secret@example.com"])
    assert mail.recipients == ("ada@example.com", "cy@example.com", "secret@example.com")
    assert b"secret" not in mail.content
    assert parse(mail)["Bcc"] is None


def test_who_is_named_twice_gets_the_mail_once(tmp_path: Path) -> None:
    mail = mail_of(tmp_path, cc=["ada@example.com"], bcc=["ada@EXAMPLE.com"])
    assert mail.recipients == ("ada@example.com",)


def test_every_attempt_has_the_same_message_id_and_another_job_has_another(tmp_path: Path) -> None:
    first, again = mail_of(tmp_path), mail_of(tmp_path)
    assert first.message_id == again.message_id == parse(again)["Message-ID"]
    assert first.message_id == "<job-1@example.com>"


def test_a_subject_and_names_outside_ascii_arrive_as_they_were_written(tmp_path: Path) -> None:
    subject = "Grüße aus Zürich 日本語の件名 🙂 " * 12 + "Ende"
    sender = Settings(mail_from='"Zürich, Büro" <post@example.com>').mail_from
    mail = mail_of(tmp_path, sender, subject=subject, text="Schöne Grüße\n")
    assert mail.content.isascii()
    message = parse(mail)
    assert message["Subject"] == subject
    assert message["From"].addresses[0].display_name == "Zürich, Büro"
    assert body(message, "plain") == "Schöne Grüße\n"


def test_a_domain_outside_ascii_is_written_as_the_dns_knows_it(tmp_path: Path) -> None:
    mail = mail_of(tmp_path, to=["ada@bücher.example.com"])
    assert mail.recipients == ("ada@xn--bcher-kva.example.com",)
    assert parse(mail)["To"] == "ada@xn--bcher-kva.example.com"
    assert not mail.international


def test_a_local_part_outside_ascii_makes_the_mail_international(tmp_path: Path) -> None:
    mail = mail_of(tmp_path, to=["jörg@example.com"])
    assert mail.international
    assert parse(mail)["To"] == "jörg@example.com"


def test_no_line_is_longer_than_smtp_allows(tmp_path: Path) -> None:
    mail = mail_of(
        tmp_path,
        to=[f"reader.number.{n}@example.com" for n in range(50)],
        subject="x" * 500,
        text="y" * 5000,
        html="z" * 5000,
    )
    # RFC 5322, section 2.1.1
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    assert body(parse(mail), "plain") == "y" * 5000 + "\n"


@pytest.mark.parametrize("line_break", list("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
def test_whatever_breaks_a_line_is_refused_by_the_contract(line_break: str) -> None:
    with pytest.raises(ValidationError, match="line break"):
        EmailSend(to=["ada@example.com"], subject=f"Hello{line_break}Bcc: eve", text="Hello")


@pytest.mark.parametrize(
    "injected",
    [
        {"subject": "Hello\r\nBcc: eve@example.com"},
        {"subject": "Hello\nBcc: eve@example.com"},
        {"to": ["ada@example.com\r\nBcc: eve@example.com"]},
        {"cc": ["ada@example.com>\r\nRCPT TO:<eve@example.com"]},
        {"bcc": ["ada@example.com\r\nDATA"]},
        {"reply_to": "ada@example.com\r\nBcc: eve@example.com"},
        {"to": ["=?utf-8?q?a=0D=0ABcc=3Aeve=40example.com?=@example.com"]},
        {"attachments": [("x.txt\r\nBcc: eve@example.com", "text/plain")]},
        {"attachments": [("x.txt", "text/plain\r\nBcc: eve@example.com")]},
    ],
)
def test_a_header_with_a_line_break_is_refused_even_when_the_contract_is_bypassed(
    tmp_path: Path, injected: dict[str, Any]
) -> None:
    attachments = []
    for name, content_type in injected.pop("attachments", []):
        whole = stored(tmp_path, "x.txt", b"x", "text/plain")
        attachments = [whole.model_copy(update={"name": name, "content_type": content_type})]
    honest = EmailSend(to=["ada@example.com"], subject="Hello", text="Hello")
    forged = honest.model_copy(update={**injected, "attachments": attachments})
    with pytest.raises(ValueError, match=r"(?i)linefeed|line break|invalid|not valid|newline|@"):
        compose(forged, "job-1", SENDER, Folder(tmp_path))


# Decoded, this is `a`, a line break and another header.
ENCODED = "=?utf-8?q?a=0D=0ABcc=3Aeve=40example.com?="


def test_a_subject_that_looks_like_an_encoded_word_arrives_as_it_was_written(
    tmp_path: Path,
) -> None:
    for subject in (ENCODED, f"Hello {ENCODED} Ada", f"Grüße {ENCODED}", "=?utf-8?q?a?=", "x=?"):
        message = parse(mail_of(tmp_path, subject=subject))
        assert message["Subject"] == subject
        assert message["Bcc"] is None
        assert body(message, "plain") == "Hello Ada\n"


def test_a_file_name_that_looks_like_an_encoded_word_is_not_decoded(tmp_path: Path) -> None:
    for name in (ENCODED, f"é{ENCODED}.txt", f"{ENCODED}.txt"):
        attachment = stored(tmp_path, name, b"x", "text/plain")
        mail = mail_of(tmp_path, attachments=[attachment])
        (part,) = parse(mail).iter_attachments()
        assert part.get_filename() == name.replace("=?", "=_")
        assert b"\nBcc" not in mail.content


def test_an_address_that_holds_an_encoded_word_is_refused_by_the_contract() -> None:
    with pytest.raises(ValidationError, match="encoded word"):
        EmailSend(to=[f"{ENCODED}@example.com"], subject="Hello", text="Hello")


def test_line_breaks_in_the_body_stay_in_the_body(tmp_path: Path) -> None:
    text = "Hello\n\nBcc: eve@example.com\n.\nRCPT TO:<eve@example.com>\n"
    message = parse(mail_of(tmp_path, text=text))
    assert message["Bcc"] is None
    assert body(message, "plain") == text
