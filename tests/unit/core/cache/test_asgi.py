"""The cache before a Flask app on an ASGI server."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from a2wsgi.wsgi import build_environ
from flask import Flask, request

from penstock.cache import Cache, keys
from penstock.cache.asgi import AsgiLayer, AsgiRequest
from penstock.cache.layer import WsgiRequest

ALLOWED = {"authorization": "Bearer right"}


def scope(path: str = "/list", method: str = "GET", **given: Any) -> dict[str, Any]:
    headers = {"host": "example.com", **given.pop("headers", ALLOWED)}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        **given,
    }


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@pytest.fixture
def asgi() -> AsgiLayer:
    """An app whose one view counts how often it is asked."""
    app = Flask(__name__)
    cache = Cache()
    cache.init_app(
        app,
        {"CACHE_TYPE": "SimpleCache"},
        guard=lambda asked: asked.header("authorization") == "Bearer right",
    )
    numbers: Iterator[int] = count(1)

    @app.before_request
    def _check() -> tuple[str, int] | None:
        return None if request.headers.get("Authorization") == "Bearer right" else ("who?", 401)

    @app.get("/list")
    @cache.cached(timeout=60, vary=["Accept-Language"])
    def _list() -> str:
        return f"{next(numbers)} {request.headers.get('Accept-Language', '')}"

    @app.post("/list")
    def _add() -> str:
        return f"added {request.get_data(as_text=True)}"

    return cache.asgi(app)


def ask(asgi: AsgiLayer, asked: dict[str, Any], sent: bytes = b"") -> Answer:
    answer = Answer()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": sent, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): it.decode() for name, it in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    asyncio.run(asgi(asked, receive, send))
    return answer


def test_a_hit_is_the_answer_of_the_miss(asgi: AsgiLayer) -> None:
    miss, hit = ask(asgi, scope()), ask(asgi, scope())
    assert (miss.status, miss.body, miss.headers["x-cache"]) == (200, b"1 ", "miss")
    assert (hit.status, hit.body, hit.headers["x-cache"]) == (200, b"1 ", "hit")
    assert hit.headers["etag"] == miss.headers["etag"]
    assert hit.headers["content-length"] == "2"


def test_head_and_what_the_client_has_are_answered_without_a_body(asgi: AsgiLayer) -> None:
    tag = ask(asgi, scope()).headers["etag"]
    head = ask(asgi, scope(method="HEAD"))
    assert (head.status, head.body, head.headers["x-cache"]) == (200, b"", "hit")
    assert head.headers["content-length"] == "2"
    known = ask(asgi, scope(headers={**ALLOWED, "if-none-match": tag}))
    assert (known.status, known.body, known.headers["x-cache"]) == (304, b"", "hit")
    assert "content-length" not in known.headers
    other = ask(asgi, scope(headers={**ALLOWED, "if-none-match": '"other"'}))
    assert (other.status, other.body) == (200, b"1 ")


def test_who_may_not_have_it_is_refused_by_the_app_though_it_is_kept(asgi: AsgiLayer) -> None:
    ask(asgi, scope())
    refused = ask(asgi, scope(headers={"authorization": "Bearer wrong"}))
    assert (refused.status, refused.body) == (401, b"who?")


def test_each_value_of_a_header_that_matters_has_an_answer_of_its_own(asgi: AsgiLayer) -> None:
    asked = [scope(headers={**ALLOWED, "accept-language": language}) for language in ("de", "fr")]
    assert [ask(asgi, it).body for it in [*asked, *asked]] == [b"1 de", b"2 fr"] * 2


def test_a_range_and_another_method_go_to_the_app(asgi: AsgiLayer) -> None:
    ask(asgi, scope())
    part = ask(asgi, scope(headers={**ALLOWED, "range": "bytes=0-0"}))
    assert part.headers.get("x-cache") != "hit"
    length = {**ALLOWED, "content-length": "4"}
    added = ask(asgi, scope(method="POST", headers=length), b"more")
    assert added.body == b"added more"


@pytest.mark.parametrize(
    "asked",
    [
        scope(),
        scope("/caf\xe9/\u65e5"),
        scope("/a b%", query_string=b"b=1&a=%20&a=x"),
        scope("/root/list", root_path="/root"),
        scope("/elsewhere", root_path="/root"),
        scope(scheme="https", server=None, http_version="1.0"),
        scope(server=("/run/socket", None)),
        scope(headers={"x-name": "caf\xe9", "content-type": "text/plain", "content-length": "0"}),
        {**scope(), "headers": [(b"host", b"a"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]},
    ],
)
def test_the_request_is_what_the_threads_see_of_it(asked: dict[str, Any]) -> None:
    theirs = build_environ(asked, None)  # type: ignore[arg-type]
    here = AsgiRequest(asked)
    ours = here.environ()
    assert ours == {name: theirs[name] for name in ours}  # type: ignore[literal-required]
    assert {name for name in theirs if name.startswith("HTTP_")} <= set(ours)
    assert here.key() == keys.of(theirs)
    there = WsgiRequest(dict(theirs))
    assert (here.method, here.path) == (there.method, there.path)
    for name in ("host", "x-name", "content-type", "nothing"):
        assert here.header(name) == there.header(name)


def test_a_header_that_comes_twice_is_read_by_a_thread(asgi: AsgiLayer) -> None:
    ask(asgi, scope())
    twice = {**scope(), "headers": [*scope()["headers"], (b"authorization", b"Bearer right")]}
    assert (ask(asgi, twice).status, AsgiRequest(twice).plain) == (401, False)
