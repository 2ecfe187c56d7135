"""How much there is to do in each queue; `backlog` is what an autoscaler goes by."""

from typing import Any

from flask import Blueprint, Response, abort
from redis import RedisError

from penstock.catalogue import BY_QUEUE
from penstock_web.problems import unavailable
from penstock_web.services import services

blueprint = Blueprint("queues", __name__, url_prefix="/api/queues")


@blueprint.errorhandler(RedisError)
def _no_broker(_: RedisError) -> Response:
    return unavailable("the broker does not answer")


@blueprint.get("")
def read_queues() -> dict[str, Any]:
    """Answer the figures of every queue; see `penstock.backlog.Figures`."""
    return {"items": [figures.model_dump() for figures in services().backlog.read()]}


@blueprint.get("/<name>")
def read_queue(name: str) -> dict[str, Any]:
    """Answer the figures of one queue."""
    if name not in BY_QUEUE:
        abort(404, f"there is no queue {name!r}, only {', '.join(BY_QUEUE)}")
    [figures] = services().backlog.read([name])
    return figures.model_dump()
