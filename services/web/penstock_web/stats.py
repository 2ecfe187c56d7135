"""Totals over the whole database: slow to compute, so computed once and kept."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint
from sqlalchemy import func, select

from penstock.database import Article, Order, User
from penstock_web.cache import cache
from penstock_web.services import services

blueprint = Blueprint("stats", __name__, url_prefix="/api/stats")


@blueprint.get("")
@cache.cached(tags=["stats"])
def read_stats() -> dict[str, Any]:
    """Answer how much there is of everything, and what was earned in each currency."""
    with services().database.session() as session:
        counts = {
            model.__tablename__: session.scalar(select(func.count()).select_from(model))
            for model in (User, Article, Order)
        }
        revenue = session.execute(
            select(Order.currency, func.sum(Order.amount, type_=Order.amount.type))
            .where(Order.status != "refunded")
            .group_by(Order.currency)
            .order_by(Order.currency)
        )
        return {
            **counts,
            "revenue": {currency: str(amount) for currency, amount in revenue},
            "computed_at": datetime.now(UTC).isoformat(),
        }
