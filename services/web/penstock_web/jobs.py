"""Jobs: accepted here with 202, done by a worker, followed at their status address."""

from base64 import b64decode
from binascii import Error as NotBase64
from typing import Annotated, Any

from flask import Blueprint, Response, abort, jsonify, url_for
from pydantic import BaseModel, BeforeValidator, Field

from penstock.contracts import (
    EmailContent,
    EmailSend,
    NotificationContent,
    NotificationSend,
    PaymentProcess,
    ReportExport,
)
from penstock.contracts.base import Contract, ShortLine
from penstock.database import User
from penstock.gate import AlreadyAcceptedError
from penstock.producer import new_id
from penstock.records import Record, State
from penstock_web.idempotency import once
from penstock_web.problems import Invalid, parse
from penstock_web.services import services

blueprint = Blueprint("jobs", __name__, url_prefix="/api")

# Seconds that a client is asked to wait before it looks at a running job again.
POLL_AFTER = 1

NO_JOB = "no job was ever accepted under the id {}, or its record has expired"

STATUS = {
    State.PENDING: "waiting in the queue",
    State.STARTED: "running",
    State.PROGRESS: "running",
    State.RETRY: "failed for now and will be tried again",
    State.SUCCESS: "done",
    State.DEAD: "failed for good",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired before it began",
}


def accept(job: BaseModel, job_id: str | None = None) -> tuple[Response, int, dict[str, str]]:
    """Queue `job` and answer 202 with where its progress can be seen."""
    return _accepted(services().producer.submit(job, job_id, once()))


@blueprint.app_errorhandler(AlreadyAcceptedError)
def _known(error: AlreadyAcceptedError) -> tuple[Response, int, dict[str, str]]:
    # An error on its way here, so that what the repeated request has uploaded is removed.
    return _accepted(error.job_id)


def _accepted(task_id: str) -> tuple[Response, int, dict[str, str]]:
    status_url = url_for("jobs.read_status", task_id=task_id)
    body = {"message": "accepted", "task_id": task_id, "status_url": status_url}
    return jsonify(body), 202, {"Location": status_url}


def _as_bytes(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be the file's bytes in Base64")
    try:
        return b64decode(value, validate=True)
    except NotBase64:
        raise ValueError("must be the file's bytes in Base64") from None


class InlineAttachment(Contract):
    """A file that comes with the request, in Base64."""

    name: ShortLine
    content_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+$", max_length=100)]
    content: Annotated[bytes, BeforeValidator(_as_bytes)]


class EmailRequest(EmailContent):
    """A mail to send, with its attachments in the request."""

    attachments: Annotated[list[InlineAttachment], Field(max_length=20)] = []


@blueprint.post("/send-email")
def send_email() -> tuple[Response, int, dict[str, str]]:
    """Accept a mail; its attachments go where files are kept, not through the broker."""
    asked = parse(EmailRequest)
    job_id = new_id()
    files = services().files
    with files.uploading(job_id) as folder:
        attachments = []
        for number, attachment in enumerate(asked.attachments):
            key = f"{folder}/{number}"
            with files.writing(key) as stream:
                stream.write(attachment.content)
            stored = files.describe(key, attachment.content_type)
            attachments.append(stored.model_copy(update={"name": attachment.name}))
        fields = asked.model_dump(exclude={"attachments"})
        return accept(EmailSend(**fields, attachments=attachments), job_id)


@blueprint.post("/notifications")
def send_notification() -> tuple[Response, int, dict[str, str]]:
    """Accept a notification to a user, who is looked up here: the worker has no database."""
    asked = parse(NotificationContent)
    with services().database.session() as session:
        user = session.get(User, asked.user_id)
        if user is None:
            raise Invalid(("user_id", f"there is no user {asked.user_id}"))
        job = NotificationSend(**asked.model_dump(), name=user.name, email=user.email)
    return accept(job)


@blueprint.post("/reports")
def export_report() -> tuple[Response, int, dict[str, str]]:
    """Accept an export of a data set."""
    return accept(parse(ReportExport))


@blueprint.post("/payments")
def process_payment() -> tuple[Response, int, dict[str, str]]:
    """Accept a payment."""
    return accept(parse(PaymentProcess))


@blueprint.get("/task-status/<task_id>")
def read_status(task_id: str) -> tuple[Response, int, dict[str, str]]:
    """Answer where a job stands: 200 when it has ended, well or not, 202 while it has not."""
    record = services().records.read(task_id)
    if record is None:
        abort(404, NO_JOB.format(task_id))
    if record.state.final:
        return jsonify(_as_json(record)), 200, {}
    return jsonify(_as_json(record)), 202, {"Retry-After": str(POLL_AFTER)}


@blueprint.post("/task-status/<task_id>/cancel")
def cancel(task_id: str) -> tuple[Response, int]:
    """Cancel a job that has not ended. A second time changes nothing and answers the same."""
    records = services().records
    state = records.cancel(task_id)
    if state is not None and state.final and state != State.CANCELLED:
        abort(409, f"the job has ended as {state} and cannot be cancelled any more")
    record = records.read(task_id) if state is not None else None
    if record is None:
        abort(404, NO_JOB.format(task_id))
    return jsonify(_as_json(record)), 200


def _as_json(record: Record) -> dict[str, Any]:
    body = record.model_dump(mode="json", exclude={"id", "result"}, exclude_none=True)
    body = {"task_id": record.id, "status": STATUS[record.state], **body}
    if record.state == State.SUCCESS:
        body["result"] = _with_addresses(record.id, record.result)
    return body


def _with_addresses(task_id: str, result: Any) -> Any:
    """Say of each file in a job's result where it can be downloaded instead of where it is kept."""
    if not isinstance(result, dict) or not isinstance(result.get("files"), list):
        return result
    files = [
        {
            "name": file["name"],
            "content_type": file["content_type"],
            "size": file["size"],
            "url": url_for("files.download", task_id=task_id, name=file["name"]),
        }
        for file in result["files"]
    ]
    return {**result, "files": files}
