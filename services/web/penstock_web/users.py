"""Users; each one is an entry of its own in the cache."""

from typing import Any

from flask import Blueprint, abort

from penstock.database import User
from penstock_web.cache import cache
from penstock_web.services import services

blueprint = Blueprint("users", __name__, url_prefix="/api/user")


@blueprint.get("/<int:user_id>")
@cache.cached(tags=lambda user_id: [f"user:{user_id}"])
def read_user(user_id: int) -> dict[str, Any]:
    """Answer one user."""
    with services().database.session() as session:
        user = session.get(User, user_id) if user_id < 2**31 else None
        if user is None:
            abort(404, f"there is no user {user_id}")
        return {
            "id": user.id,
            "name": user.name,
            "email": user.email,
            "joined_at": user.joined_at.isoformat(),
        }
