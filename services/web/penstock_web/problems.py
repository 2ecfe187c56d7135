"""Errors as problem details, the JSON of RFC 9457: a title, what was wrong, and where."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import structlog
from flask import Flask, Response, request
from pydantic import BaseModel, ValidationError
from redis import RedisError
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from penstock.gate import BrokerUnavailableError, KeyReusedError, QueueFullError
from penstock.storage import StorageError, StorageFullError

logger = structlog.get_logger(__name__)

# Seconds after which a client may try again when a server behind this one is down.
RETRY_AFTER = 5
# The same when a queue is full, which takes longer to change.
RETRY_AFTER_FULL = 30


class Invalid(Exception):  # noqa: N818 - reads as what the request is
    """The request cannot be accepted; `errors` are pairs of a field and what it wants."""

    def __init__(self, *errors: tuple[str, str]) -> None:
        super().__init__(errors)
        self.errors = errors


class Unavailable(Exception):  # noqa: N818
    """A server behind this one does not answer; the client may try again."""


def problem(
    status: int,
    detail: str,
    *,
    errors: Iterable[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem; `errors` name each field that was wrong and what it wants."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if listed := [{"field": field, "message": message} for field, message in errors]:
        body["errors"] = listed
    return Response(
        json.dumps(body),
        status=status,
        headers=dict(headers or {}),
        content_type="application/problem+json",
    )


Contract = TypeVar("Contract", bound=BaseModel)


def parse(model: type[Contract]) -> Contract:
    """Return the request's JSON as a `model`; raises Invalid with every field that is wrong."""
    body = request.get_data()
    # A body that came without its length is cut off at the limit, and the next read refuses it.
    request.stream.read(1)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Invalid(*fields(error)) from None


def check(model: type[Contract], values: Mapping[str, Any]) -> Contract:
    """Return `values`, from a query or a form, as a `model`; raises Invalid as `parse` does."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Invalid(*fields(error)) from None


def fields(error: ValidationError) -> list[tuple[str, str]]:
    """Return each field that is wrong and what it wants."""
    return [
        (".".join(map(str, item["loc"])) or "body", item["msg"].removeprefix("Value error, "))
        for item in error.errors(include_url=False, include_input=False)
    ]


def init_app(app: Flask) -> None:
    """Answer every error of the application with a problem."""

    @app.errorhandler(Invalid)
    def _invalid(error: Invalid) -> Response:
        return problem(422, "the request has values that cannot be accepted", errors=error.errors)

    @app.errorhandler(RequestEntityTooLarge)
    def _too_large(_: RequestEntityTooLarge) -> Response:
        limit = app.extensions["penstock"].settings.upload_max
        return problem(413, f"a request may have at most {limit:,} bytes")

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        answer = problem(error.code or 500, error.description or "")
        for name, value in error.get_headers():
            if name.lower() not in {"content-type", "content-length"}:
                answer.headers[name] = value
        return answer

    @app.errorhandler(Unavailable)
    def _down(error: Unavailable) -> Response:
        return unavailable(str(error))

    @app.errorhandler(BrokerUnavailableError)
    def _no_broker(_: BrokerUnavailableError) -> Response:
        return unavailable("the job was not accepted: the broker does not answer")

    @app.errorhandler(QueueFullError)
    def _full(error: QueueFullError) -> Response:
        detail = f"the job was not accepted: {error}"
        return problem(429, detail, headers={"Retry-After": str(RETRY_AFTER_FULL)})

    @app.errorhandler(StorageError)
    def _no_files(error: StorageError) -> Response:
        logger.warning("files cannot be kept or read", error=str(error))
        return unavailable("the place where files are kept does not answer")

    @app.errorhandler(StorageFullError)
    def _no_room(error: StorageFullError) -> Response:
        logger.warning("files cannot be kept", error=str(error))
        # Not 507, after which a client must not try again by itself (RFC 4918, section 11.5): there
        # will be room, since files are kept for a time.
        detail = "there is no room for the file now"
        return problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_FULL)})

    @app.errorhandler(KeyReusedError)
    def _reused(error: KeyReusedError) -> Response:
        return problem(409, str(error))

    @app.errorhandler(RedisError)
    def _no_records(_: RedisError) -> Response:
        return unavailable("the job records do not answer")

    @app.errorhandler(OperationalError)
    def _no_database(_: OperationalError) -> Response:
        return unavailable("the database does not answer")

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        logger.exception("request failed", exc_info=error)
        return problem(500, "something went wrong here; it has been logged")


def unavailable(detail: str) -> Response:
    """Return that a server behind this one does not answer, and when to try again."""
    return problem(503, detail, headers={"Retry-After": str(RETRY_AFTER)})
