"""Probes. They need no key."""

from flask import Blueprint
from sqlalchemy.exc import SQLAlchemyError

from penstock_web.problems import Unavailable
from penstock_web.services import services

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def live() -> dict[str, str]:
    """Answer that this process serves requests; asks nothing of anybody else."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def ready() -> dict[str, str]:
    """Answer whether reads can be served, which needs the database and no Redis at all.

    With the broker down this stays ready: posts answer 503 by themselves, and taking the web tier
    out of its load balancer would lose the reads as well.
    """
    try:
        services().database.ping()
    except SQLAlchemyError:
        raise Unavailable("the database does not answer") from None
    return {"status": "ok"}
