"""Cached reads, and what a change does to them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from processes import until
from pydantic import SecretStr
from sqlalchemy import update

from penstock.database import Article, Database
from penstock.settings import Settings

MakeClient = Callable[..., FlaskClient]


def behind_the_api(settings: Settings, title: str) -> None:
    """Change every article without the API, so that only a cached answer still has the old one."""
    with Database(settings.database_url).session() as session:
        session.execute(update(Article).values(title=title))


@pytest.mark.parametrize("path", ["/api/articles", "/api/articles/1", "/api/user/1"])
def test_a_second_read_comes_from_the_cache_and_is_the_same(client: FlaskClient, path: str) -> None:
    first, second = client.get(path), client.get(path)

    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("miss", "hit")
    assert first.json == second.json
    assert first.content_type == second.content_type == "application/json"


def test_the_list_is_paged_with_the_newest_first(client: FlaskClient) -> None:
    first = client.get("/api/articles?per_page=30").get_json()
    last = client.get("/api/articles?per_page=30&page=4").get_json()

    assert first["total"] == last["total"] == 100
    assert [item["id"] for item in first["items"]] == list(range(100, 70, -1))
    assert [item["id"] for item in last["items"]] == list(range(10, 0, -1))


def test_each_page_is_an_entry_of_its_own(client: FlaskClient) -> None:
    client.get("/api/articles?page=1")

    assert client.get("/api/articles?page=2").headers["X-Cache"] == "miss"
    assert client.get("/api/articles?page=1&per_page=7").headers["X-Cache"] == "miss"


def test_each_user_is_an_entry_of_its_own(client: FlaskClient) -> None:
    assert [client.get(f"/api/user/{n}").get_json()["id"] for n in (1, 2, 1, 2)] == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("query", "field"),
    [("page=0", "page"), ("per_page=101", "per_page"), ("page=x", "page"), ("limit=5", "limit")],
)
def test_a_page_that_cannot_be_is_refused_by_name(
    client: FlaskClient, query: str, field: str
) -> None:
    answer = client.get(f"/api/articles?{query}")

    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]


@pytest.mark.parametrize("path", ["/api/articles/999999", "/api/user/999999", "/api/user/1e9"])
def test_what_is_not_there_is_a_404_that_is_not_kept(client: FlaskClient, path: str) -> None:
    for _ in range(2):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"
        assert answer.headers.get("X-Cache", "bypass") == "bypass"


def test_an_id_larger_than_the_database_can_hold_is_a_404(client: FlaskClient) -> None:
    assert client.get(f"/api/articles/{2**63}").status_code == 404


def test_a_new_article_is_in_the_list_at_once(client: FlaskClient) -> None:
    client.get("/api/articles")
    new = client.post("/api/articles", json={"author_id": 1, "title": "New", "body": "Text"})

    assert new.status_code == 201
    assert client.get(new.headers["Location"]).get_json() == new.get_json()
    assert client.get("/api/articles").get_json()["items"][0]["title"] == "New"


def test_a_changed_article_is_read_changed_alone_and_in_the_list(client: FlaskClient) -> None:
    client.get("/api/articles?per_page=1")
    client.get("/api/articles/100")
    changed = client.patch("/api/articles/100", json={"title": "Other"}).get_json()

    assert changed["title"] == "Other"
    assert client.get("/api/articles/100").get_json() == changed
    assert client.get("/api/articles?per_page=1").get_json()["items"] == [changed]


def test_a_deleted_article_is_gone_alone_and_from_the_list(client: FlaskClient) -> None:
    client.get("/api/articles?per_page=1")
    client.get("/api/articles/100")

    assert client.delete("/api/articles/100").status_code == 204
    assert client.get("/api/articles/100").status_code == 404
    assert client.get("/api/articles?per_page=1").get_json()["items"][0]["id"] == 99


def test_an_article_of_nobody_is_refused(client: FlaskClient) -> None:
    answer = client.post("/api/articles", json={"author_id": 11, "title": "T", "body": "B"})

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "author_id"


def test_the_stats_count_every_table_and_are_computed_once(
    client: FlaskClient, settings: Settings
) -> None:
    stats = client.get("/api/stats").get_json()

    assert (stats["users"], stats["articles"], stats["orders"]) == (10, 100, 2000)
    assert set(stats["revenue"]) == {"CHF", "EUR", "USD"}
    assert client.get("/api/stats").get_json() == stats


def test_clearing_the_cache_makes_every_read_a_miss(client: FlaskClient) -> None:
    computed = client.get("/api/stats").get_json()["computed_at"]
    client.get("/api/articles")
    client.post("/api/cache/clear")

    assert client.get("/api/articles").headers["X-Cache"] == "miss"
    assert client.get("/api/stats").get_json()["computed_at"] != computed


@pytest.mark.parametrize("backend", ["redis", "simple", "filesystem"])
def test_a_cached_read_does_not_ask_the_database(
    make_client: MakeClient, settings: Settings, tmp_path: Path, backend: str
) -> None:
    client = make_client(cache=backend, cache_folder=tmp_path / "cache")
    before = client.get("/api/articles").get_json()
    behind_the_api(settings, "Behind")

    assert client.get("/api/articles").get_json() == before
    client.post("/api/cache/clear")
    assert client.get("/api/articles").get_json()["items"][0]["title"] == "Behind"


def test_a_tag_or_a_prefix_can_be_cleared_alone(client: FlaskClient) -> None:
    paths = ["/api/articles", "/api/articles/1", "/api/articles/2", "/api/user/1"]

    def hits() -> list[str]:
        return [client.get(path).headers["X-Cache"] for path in paths]

    hits()
    assert client.post("/api/cache/clear", json={"tags": ["article:1"]}).status_code == 200
    assert hits() == ["hit", "miss", "hit", "hit"]
    assert client.post("/api/cache/clear", json={"prefix": "/api/articles"}).status_code == 200
    assert hits() == ["miss", "miss", "miss", "hit"]


@pytest.mark.parametrize(
    "asked", [{"tags": []}, {"tags": ["a"], "prefix": "b"}, {"tag": "a"}, {"prefix": ""}, [1]]
)
def test_a_clearing_that_cannot_be_is_refused(client: FlaskClient, asked: object) -> None:
    assert client.post("/api/cache/clear", json=asked).status_code == 422


def test_only_the_operator_clears_where_there_is_one(make_client: MakeClient) -> None:
    client = make_client(operator_key=SecretStr("operators"))
    operator = {"Authorization": "Bearer operators"}

    refused = client.post("/api/cache/clear")
    assert (refused.status_code, refused.content_type) == (403, "application/problem+json")
    assert client.post("/api/cache/clear", headers=operator).status_code == 200
    assert client.get("/api/articles").headers["X-Cache"] == "miss"
    assert client.get("/api/articles", headers=operator).headers["X-Cache"] == "hit"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic key-of-the-tests", "é"])
def test_a_hit_demands_the_key_as_everything_does(client: FlaskClient, header: str | None) -> None:
    client.get("/api/articles")
    assert client.get("/api/articles").headers["X-Cache"] == "hit"
    del client.environ_base["HTTP_AUTHORIZATION"]
    headers = {} if header is None else {"Authorization": header}
    refused = client.get("/api/articles", headers=headers)
    other = client.get("/api/files/x/y", headers=headers)

    assert refused.status_code == 401
    assert (refused.data, refused.headers) == (other.data, other.headers)


def test_the_stats_of_the_cache_count_views_and_tiers(
    make_client: MakeClient, redis_url: str
) -> None:
    # An application of another test may still hand on to the other place what it has counted.
    client = make_client(cache_url=f"{redis_url}/3")
    for _ in range(3):
        client.get("/api/articles")

    def counted() -> bool:
        # What a process has counted reaches the others within a second.
        said = client.get("/api/cache/stats").get_json()
        view = said["views"]["articles.list_articles"]
        return (view["computations"], view["hits"], said["total"]["misses"]) == (1, 2, 1)

    until(counted, "all is counted")


def test_without_a_cache_every_read_is_a_miss(make_client: MakeClient) -> None:
    client = make_client(cache="null")

    assert [client.get("/api/articles").headers["X-Cache"] for _ in range(2)] == ["miss", "miss"]


@pytest.mark.parametrize("backend", ["redis", "memcached"])
def test_with_the_cache_server_down_reads_come_from_the_database(
    make_client: MakeClient, backend: str
) -> None:
    client = make_client(
        cache=backend, cache_url="redis://127.0.0.1:1/0", cache_memcached="127.0.0.1:1"
    )

    for page in (1, 2):
        answer = client.get(f"/api/articles?page={page}")
        assert (answer.status_code, answer.headers["X-Cache"]) == (200, "miss")
    assert client.get("/api/stats").status_code == 200
    assert client.patch("/api/articles/1", json={"title": "T"}).status_code == 200


def test_probes_need_no_key_and_reads_alone_decide_readiness(
    make_client: MakeClient,
) -> None:
    client = make_client(broker_url="redis://127.0.0.1:1/0")
    del client.environ_base["HTTP_AUTHORIZATION"]

    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_without_its_database_the_web_tier_is_alive_but_not_ready(
    make_client: MakeClient,
) -> None:
    client = make_client(database_url="postgresql://nobody@127.0.0.1:1/none")

    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert client.get("/api/user/1").status_code == 503
