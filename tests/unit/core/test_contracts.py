import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from penstock.catalogue import BY_JOB
from penstock.contracts import (
    TEMPLATES,
    EmailSend,
    FilesExpire,
    ImageProcess,
    NotificationSend,
    PaymentProcess,
    Rendition,
    ReportExport,
    StoredFile,
)
from penstock.storage.folder import Folder

FILE = {"key": "upload-in/0", "name": "a.csv", "content_type": "text/csv", "size": 3}
MAIL = {"to": ["ada@example.com"], "subject": "Hello"}
MESSAGES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (EmailSend, {**MAIL, "text": "T", "attachments": [FILE]}),
    (
        NotificationSend,
        {"user_id": 1, "title": "T", "message": "M", "name": "N", "email": "n@example.com"},
    ),
    (ImageProcess, {"source": FILE, "renditions": [{"name": "a", "width": 1, "height": 1}]}),
    (ReportExport, {"dataset": "orders", "columns": ["id"], "filters": ["id > 1"]}),
    (FilesExpire, {}),
    (PaymentProcess, {"order": "o-1", "amount": "19.90", "currency": "EUR"}),
]


def wrong(model: type[BaseModel], fields: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with the fields: the place of each error and its message."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(fields)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


# Every message


def test_every_job_has_an_example_here() -> None:
    assert {model for model, _ in MESSAGES} == {job.contract for job in BY_JOB.values()}


@pytest.mark.parametrize(("model", "fields"), MESSAGES)
def test_a_message_is_the_same_after_its_way_through_the_broker(
    model: type[BaseModel], fields: dict[str, Any]
) -> None:
    message = model.model_validate(fields)
    assert model.model_validate(json.loads(json.dumps(message.model_dump(mode="json")))) == message


@pytest.mark.parametrize(("model", "fields"), MESSAGES)
def test_an_unknown_field_is_refused_by_name(
    model: type[BaseModel], fields: dict[str, Any]
) -> None:
    assert wrong(model, {**fields, "colour": "red"}).keys() == {"colour"}


def test_a_message_does_not_change_after_it_was_validated() -> None:
    payment = PaymentProcess(order="o-1", currency="EUR", amount=Decimal("19.90"))
    with pytest.raises(ValidationError, match="frozen"):
        payment.amount = Decimal(0)  # type: ignore[misc]


# Payments


@pytest.mark.parametrize(
    ("amount", "currency", "minor_units"),
    [
        ("19.90", "EUR", 1990),
        ("19.9", "EUR", 1990),
        ("20", "EUR", 2000),
        ("0.01", "EUR", 1),
        ("9999999999.99", "EUR", 999999999999),
        ("1990", "JPY", 1990),
        ("1.990", "KWD", 1990),
        ("0.001", "KWD", 1),
        ("2E+1", "EUR", 2000),
    ],
)
def test_an_amount_is_counted_in_the_smallest_unit_of_its_currency(
    amount: str, currency: str, minor_units: int
) -> None:
    payment = PaymentProcess.model_validate({"order": "o", "currency": currency, "amount": amount})
    assert payment.minor_units == minor_units


@pytest.mark.parametrize(
    ("amount", "currency", "digits"), [("1.5", "JPY", 0), ("1.999", "EUR", 2), ("1.0001", "KWD", 3)]
)
def test_an_amount_with_more_digits_than_its_currency_is_refused(
    amount: str, currency: str, digits: int
) -> None:
    errors = wrong(PaymentProcess, {"order": "o", "currency": currency, "amount": amount})
    assert errors.keys() == {"amount"}
    assert f"{currency} has {digits} digits" in errors["amount"]


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity", "ten", "", 19.9, 19, None])
def test_what_is_no_positive_decimal_written_as_text_is_no_amount(amount: Any) -> None:
    fields = {"order": "o", "currency": "EUR", "amount": amount}
    assert wrong(PaymentProcess, fields).keys() == {"amount"}


# Mail


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_taken_with_exactly_what_it_needs(template: str) -> None:
    context = dict.fromkeys(TEMPLATES[template], "x")
    mail = EmailSend.model_validate({**MAIL, "template": template, "context": context})
    assert mail.context == context


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_with_less_or_more_names_what_it_needs(template: str) -> None:
    needed = TEMPLATES[template]
    full = dict.fromkeys(needed, "x")
    for context in ({}, {**full, "colour": "red"}, dict(list(full.items())[1:])):
        errors = wrong(EmailSend, {**MAIL, "template": template, "context": context})
        assert ", ".join(sorted(needed)) in errors[""]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "needs text, html or template"),
        ({"text": "T", "context": {"name": "x"}}, "context goes with template"),
        ({"text": "T", "template": "welcome", "context": {"name": "x"}}, "must be left out"),
        ({"html": "T", "template": "welcome", "context": {"name": "x"}}, "must be left out"),
    ],
)
def test_a_mail_has_a_body_or_a_template_and_not_both(body: dict[str, Any], message: str) -> None:
    assert message in wrong(EmailSend, {**MAIL, **body})[""]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"subject": "a\nBcc: b@example.com"}, "subject"),
        ({"subject": "a\u2028b"}, "subject"),
        ({"subject": "a\x85b"}, "subject"),
        ({"to": ["a@example.com\r\nBcc: b@example.com"]}, "to.0"),
        ({"to": ["=?utf-8?q?=0A?=@example.com"]}, "to.0"),
        ({"cc": ["a"]}, "cc.0"),
        ({"bcc": ["a@"]}, "bcc.0"),
        ({"reply_to": "a@example.com\n"}, "reply_to"),
        ({"to": []}, "to"),
        ({"to": ["a@example.com"] * 51}, "to"),
    ],
)
def test_what_would_break_a_header_is_refused(fields: dict[str, Any], place: str) -> None:
    assert wrong(EmailSend, {**MAIL, "text": "T", **fields}).keys() == {place}


# Files


@pytest.mark.parametrize(
    "key",
    [
        "../secret",
        "/etc/passwd",
        "a/../b",
        "a/b/c",
        "./a",
        ".a/b",
        "a",
        "a/",
        "/a",
        "a\\b",
        "a/b\\c",
        "a/\n",
        "a/b\n",
        "a/b\x00",
        "A/b",
        "a/" + "b" * 201,
        "",
    ],
)
def test_what_is_not_a_folder_and_a_name_is_no_key(key: str) -> None:
    assert wrong(StoredFile, {**FILE, "key": key}).keys() == {"key"}


@pytest.mark.parametrize("key", ["a/../..", "..", "../a", "/etc/passwd"])
def test_no_key_leads_out_of_the_shared_folder(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        Folder(tmp_path / "files").path(key)


def test_a_link_that_leads_out_of_the_shared_folder_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "files"
    root.mkdir()
    (root / "a").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is not a key"):
        Folder(root).path("a/secret")


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", -1), ("name", "a\nb"), ("name", ""), ("content_type", "text"), ("content_type", "")],
)
def test_a_stored_file_is_described_in_full(field: str, value: Any) -> None:
    assert wrong(StoredFile, {**FILE, field: value}).keys() == {field}


# Pictures and reports


@pytest.mark.parametrize("name", ["", "A", "a.b", "a/b", "-a", "a" * 41])
def test_a_renditions_name_fits_into_a_file_name(name: str) -> None:
    assert wrong(Rendition, {"name": name, "width": 1, "height": 1}).keys() == {"name"}


@pytest.mark.parametrize("quality", [0, 101, "high"])
def test_the_quality_is_from_1_to_100(quality: Any) -> None:
    fields = {"name": "a", "width": 1, "height": 1, "quality": quality}
    assert wrong(Rendition, fields).keys() == {"quality"}


def test_a_wrong_data_set_is_all_that_is_said_of_a_report() -> None:
    fields = {"dataset": "invoices", "columns": ["x"], "filters": ["x = 1"]}
    assert wrong(ReportExport, fields).keys() == {"dataset"}


@pytest.mark.parametrize("field", ["columns", "formats"])
def test_a_report_names_nothing_twice(field: str) -> None:
    twice = {"columns": ["id", "id"], "formats": ["csv", "csv"]}
    errors = wrong(ReportExport, {"dataset": "users", field: twice[field]})
    assert "stands twice" in errors[field]
