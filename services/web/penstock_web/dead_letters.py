"""Dead letters: jobs that ended other than well, to be looked at, replayed or discarded."""

from contextlib import suppress
from typing import Annotated, Any, NoReturn
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, jsonify, request, url_for
from pydantic import BeforeValidator, Field, JsonValue, RootModel, ValidationError
from redis import RedisError

from penstock.dead_letters import Cursor, Filters, NotReplayableError
from penstock_web.problems import Invalid, check, fields, parse, unavailable
from penstock_web.services import services

blueprint = Blueprint("dead_letters", __name__, url_prefix="/api/dead-letters")


class Listed(Filters):
    """Which letters, and where in their list to go on."""

    cursor: Annotated[Cursor, BeforeValidator(Cursor.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50


class Many(Listed):
    """Which letters to replay or discard; all of them only where that is said."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
    all: bool = False


class Arguments(RootModel[dict[str, JsonValue]]):
    """Keyword arguments; those of a job of the catalogue are one, named `job`."""


@blueprint.errorhandler(RedisError)
def _no_broker(_: RedisError) -> Response:
    return unavailable("the broker does not answer")


@blueprint.get("")
def list_letters() -> dict[str, Any]:
    """Answer a page of the letters, the newest first."""
    asked = check(Listed, request.args.to_dict())
    page = services().dead_letters.page(asked, asked.cursor, asked.limit)
    return {
        "items": [letter.model_dump() for letter in page.items],
        "total": page.total,
        "next": _address(page.next),
    }


@blueprint.get("/<path:letter_id>")
def read_letter(letter_id: str) -> dict[str, Any]:
    """Answer all that is known of a letter."""
    letter = services().dead_letters.show(letter_id) or _not_there(letter_id)
    return letter.model_dump()


@blueprint.post("/<path:letter_id>/replay")
def replay_letter(letter_id: str) -> tuple[Response, int, dict[str, str]]:
    """Queue a letter's job again, with the arguments in the body if there is one."""
    kwargs = parse(Arguments).root if request.get_data() else None
    try:
        update = services().dead_letters.replay(letter_id, kwargs) or _not_there(letter_id)
    except ValidationError as error:
        raise Invalid(*fields(error)) from None
    except NotReplayableError as error:
        abort(409, f"the dead letter {letter_id} cannot be replayed: {error}")
    with suppress(RedisError):
        # Before the client looks, who would take what the record still says for the new outcome.
        services().records.apply(update)
    status_url = url_for("jobs.read_status", task_id=update["id"])
    body = {"message": "replayed", "task_id": update["id"], "status_url": status_url}
    return jsonify(body), 202, {"Location": status_url}


@blueprint.post("/replay")
def replay_letters() -> dict[str, Any]:
    """Replay the oldest letters that the query means, as many as its limit says."""
    if request.get_data():
        raise Invalid(("body", "arguments can be changed for one letter at a time only"))
    asked = _asked_for_many()
    batch = services().dead_letters.replay_many(asked, asked.cursor, asked.limit)
    return {
        "replayed": batch.done,
        "refused": [{"id": it, "reason": why} for it, why in batch.refused.items()],
        "next": _address(batch.next),
    }


@blueprint.delete("/<path:letter_id>")
def discard_letter(letter_id: str) -> Response:
    """Discard a letter."""
    if not services().dead_letters.discard(letter_id):
        _not_there(letter_id)
    return Response(status=204)


@blueprint.delete("")
def discard_letters() -> dict[str, Any]:
    """Discard the oldest letters that the query means, as many as its limit says."""
    asked = _asked_for_many()
    batch = services().dead_letters.discard_many(asked, asked.cursor, asked.limit)
    return {"discarded": batch.done, "next": _address(batch.next)}


def _asked_for_many() -> Many:
    asked = check(Many, request.args.to_dict())
    if asked.is_empty and not asked.all:
        raise Invalid(("all", "must be true where there is no filter, such as queue=payment"))
    return asked


def _not_there(letter_id: str) -> NoReturn:
    abort(404, f"there is no dead letter {letter_id}; it may have been replayed or discarded")


def _address(cursor: Cursor | None) -> str | None:
    """Return where this request goes on, or None where it does not."""
    if cursor is None:
        return None
    query = urlencode({**request.args, "cursor": cursor.encode()})
    return f"{request.script_root}{request.path}?{query}"
