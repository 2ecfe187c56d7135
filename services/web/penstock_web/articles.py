"""Articles: read often, so cached; written seldom, and then what was cached of them goes."""

from datetime import UTC, datetime
from typing import Annotated, Any

from flask import Blueprint, Response, abort, request, url_for
from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from penstock.contracts.base import Contract, ShortLine
from penstock.database import Article, User
from penstock_web.cache import cache
from penstock_web.problems import Invalid, check, parse
from penstock_web.services import services

blueprint = Blueprint("articles", __name__, url_prefix="/api/articles")

Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
Body = Annotated[str, Field(min_length=1, max_length=100_000, pattern=r"^[^\x00]*$")]


class Page(Contract):
    """Which part of the list is asked for; pages count from 1."""

    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20


class NewArticle(Contract):
    """An article to be published now."""

    author_id: Id
    title: ShortLine
    body: Body


class Changes(Contract):
    """What to change of an article; what is left out stays."""

    title: ShortLine | None = None
    body: Body | None = None


def as_json(article: Article) -> dict[str, Any]:
    """Return the article as the API shows it."""
    return {
        "id": article.id,
        "author_id": article.author_id,
        "title": article.title,
        "body": article.body,
        "published_at": article.published_at.isoformat(),
    }


# What the entries of an article carry, beside what every list carries.
LISTS = "articles"


def _tag(article_id: int) -> str:
    return f"article:{article_id}"


@blueprint.get("")
@cache.cached(tags=[LISTS])
def list_articles() -> dict[str, Any]:
    """Answer a page of the articles, the newest first."""
    asked = check(Page, request.args.to_dict())
    with services().database.session() as session:
        total = session.scalar(select(func.count()).select_from(Article))
        articles = session.scalars(
            select(Article)
            .order_by(Article.published_at.desc(), Article.id.desc())
            .offset((asked.page - 1) * asked.per_page)
            .limit(asked.per_page)
        )
        return {
            "items": [as_json(article) for article in articles],
            "page": asked.page,
            "per_page": asked.per_page,
            "total": total,
        }


@blueprint.get("/<int:article_id>")
@cache.cached(tags=lambda article_id: [_tag(article_id)])
def read_article(article_id: int) -> dict[str, Any]:
    """Answer one article."""
    with services().database.session() as session:
        return as_json(_find(session, article_id))


@blueprint.post("")
def create_article() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Publish an article."""
    new = parse(NewArticle)
    with services().database.session() as session:
        if session.get(User, new.author_id) is None:
            raise Invalid(("author_id", f"there is no user {new.author_id}"))
        article = Article(**new.model_dump(), published_at=datetime.now(UTC))
        session.add(article)
        session.flush()
        body = as_json(article)
    cache.drop_tags(LISTS, _tag(body["id"]))
    where = url_for("articles.read_article", article_id=body["id"])
    return body, 201, {"Location": where}


@blueprint.patch("/<int:article_id>")
def change_article(article_id: int) -> dict[str, Any]:
    """Change an article's title, body or both."""
    changes = parse(Changes)
    with services().database.session() as session:
        article = _find(session, article_id)
        for name, value in changes.model_dump(exclude_none=True).items():
            setattr(article, name, value)
        session.flush()
        body = as_json(article)
    cache.drop_tags(LISTS, _tag(article_id))
    return body


@blueprint.delete("/<int:article_id>")
def delete_article(article_id: int) -> Response:
    """Delete an article."""
    with services().database.session() as session:
        session.delete(_find(session, article_id))
    cache.drop_tags(LISTS, _tag(article_id))
    return Response(status=204)


def _find(session: Session, article_id: int) -> Article:
    article = session.get(Article, article_id) if article_id < 2**31 else None
    return article or abort(404, f"there is no article {article_id}")
