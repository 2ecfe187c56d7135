"""What every peer answers: a page of articles, read from PostgreSQL by the same query."""

import os
from functools import cache
from typing import Any

from sqlalchemy import func, select

from penstock.database import Article, Database


@cache
def database() -> Database:
    """Return the database that BENCH_DATABASE names."""
    return Database(os.environ["BENCH_DATABASE"], pool_size=16)


def articles(page: int, per_page: int) -> dict[str, Any]:
    """Return a page of the articles, the newest first, as the API shows them."""
    with database().session() as session:
        found = session.scalars(
            select(Article)
            .order_by(Article.published_at.desc(), Article.id.desc())
            .offset((page - 1) * per_page)
            .limit(per_page)
        )
        return {
            "items": [
                {
                    "id": it.id,
                    "author_id": it.author_id,
                    "title": it.title,
                    "body": it.body,
                    "published_at": it.published_at.isoformat(),
                }
                for it in found
            ],
            "page": page,
            "per_page": per_page,
            "total": session.scalar(select(func.count()).select_from(Article)),
        }
