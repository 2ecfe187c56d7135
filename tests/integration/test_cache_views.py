"""What the cache keeps of a view's answers, under which key, and what a client gets of it."""

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pytest
from flask import Flask, Response, abort, request, session
from flask.testing import FlaskClient
from processes import until
from redis import Redis
from werkzeug.test import TestResponse

from penstock.cache import Cache, entries, everyone
from penstock.cache.redis_store import RedisStore

MakeApp = Callable[..., "App"]
# A busy machine may keep Redis from answering for long, which is not what is tested here.
COMMON = {"CACHE_DEFAULT_TIMEOUT": 60, "CACHE_BUDGET": 5}


class App:
    """A Flask app with a cache, and how often each of its views ran."""

    def __init__(self, guard: Any = everyone, **config: Any) -> None:
        self.flask = Flask(__name__)
        self.flask.secret_key = "secret"
        self.cache = Cache()
        self.cache.init_app(self.flask, {**COMMON, **config}, guard=guard)
        self.runs: Counter[str] = Counter()

    def view(self, rule: str, answer: Callable[..., Any], **options: Any) -> None:
        """Add a cached view that answers what `answer` returns."""

        def run(**kwargs: Any) -> Any:
            self.runs[rule] += 1
            return answer(**kwargs)

        methods = options.pop("methods", None)
        self.flask.add_url_rule(rule, rule, self.cache.cached(**options)(run), methods=methods)

    def get(self, path: str, client: FlaskClient | None = None, **options: Any) -> TestResponse:
        """Return the answer to a GET."""
        return (client or self.flask.test_client()).get(path, **options)

    def asked(self, *paths: str, **options: Any) -> list[str | None]:
        """Return what X-Cache says of each."""
        return [self.get(path, **options).headers.get("X-Cache") for path in paths]


BACKENDS = [
    "TieredCache",
    "SimpleCache",
    "FileSystemCache",
    pytest.param("MemcachedCache", marks=pytest.mark.memcached),
]


@pytest.fixture(params=BACKENDS)
def make_app(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> MakeApp:
    """Make an app on each of the back ends."""
    where = {
        "CACHE_TYPE": request.param,
        "CACHE_REDIS_URL": f"{redis_url}/0",
        "CACHE_DIR": str(tmp_path / "cache"),
    }
    if request.param == "MemcachedCache":
        where["CACHE_MEMCACHED_SERVERS"] = [request.getfixturevalue("memcached")]
    return lambda **options: App(**{**where, **options})


@pytest.fixture
def app(make_app: MakeApp) -> App:
    return make_app()


# What is kept


def _session() -> str:
    session["seen"] = True
    return "text"


def _raises() -> str:
    raise LookupError("not here")


KEPT: dict[str, Callable[[], Any]] = {
    "text": lambda: "text",
    "JSON": lambda: {"a": [1, 2.5, None]},
    "bytes": lambda: Response(bytes(range(256)), content_type="application/octet-stream"),
    "nothing": lambda: ("", 204),
    "created": lambda: ({"a": 1}, 201, {"Location": "/a", "X-Own": "x"}),
    "its own ETag": lambda: ("text", {"ETag": '"mine"'}),
    "it may be kept": lambda: ("text", {"Cache-Control": "public, max-age=30"}),
}
NOT_KEPT: dict[str, Callable[[], Any]] = {
    "a cookie": lambda: ("text", {"Set-Cookie": "sid=alice"}),
    "the session's cookie": _session,
    "private": lambda: ("text", {"Cache-Control": "private, max-age=30"}),
    "no-store": lambda: ("text", {"Cache-Control": "no-store"}),
    "no-cache": lambda: ("text", {"Cache-Control": "no-cache"}),
    "no time": lambda: ("text", {"Cache-Control": "max-age=0"}),
    "Vary: *": lambda: ("text", {"Vary": "*"}),
    "a part": lambda: ("text", 206, {"Content-Range": "bytes 0-3/9"}),
    "elsewhere": lambda: ("", 302, {"Location": "/a"}),
    "not found": lambda: abort(404),
    "refused": lambda: abort(403),
    "busy": lambda: ("busy", 503),
    "an exception": _raises,
    "a stream": lambda: Response(iter(["a", "b"])),
    "a stream with its length": lambda: Response(iter(["a", "b"]), headers={"Content-Length": "2"}),
}


@pytest.mark.parametrize("what", KEPT)
def test_it_is_kept_and_served_as_it_was(app: App, what: str) -> None:
    app.view("/a", KEPT[what])
    first, second = app.get("/a"), app.get("/a")

    assert (first.headers.pop("X-Cache"), second.headers.pop("X-Cache")) == ("miss", "hit")
    assert (first.status, first.data) == (second.status, second.data)
    assert first.headers.pop("Age") == "0"
    assert second.headers.pop("Age") in {"0", "1"}
    assert sorted(first.headers) == sorted(second.headers)
    assert app.runs["/a"] == 1


@pytest.mark.parametrize("what", NOT_KEPT)
def test_it_is_not_kept(app: App, what: str) -> None:
    app.view("/a", NOT_KEPT[what])

    for times in (1, 2, 3):
        answer = app.get("/a")
        assert answer.headers["X-Cache"] == "bypass"
        assert "ETag" not in answer.headers
        assert app.runs["/a"] == times
    if "stream" in what:
        assert answer.data == b"ab"
    if what == "a cookie":
        assert answer.headers["Set-Cookie"] == "sid=alice"


def test_a_404_is_kept_for_a_short_time_where_that_is_asked_for(app: App) -> None:
    app.view("/a/<int:n>", lambda n: abort(404), not_found=5)
    assert app.asked("/a/1", "/a/1", "/a/2") == ["miss", "hit", "miss"]


def test_a_view_can_say_what_is_not_kept(app: App) -> None:
    app.view("/a", lambda: "text", unless=lambda: "fresh" in request.args)
    app.view("/b", lambda: "text", response_filter=lambda answer: answer.data != b"text")
    assert app.asked("/a?fresh", "/a", "/a", "/a?fresh") == [None, "miss", "hit", None]
    assert app.asked("/b", "/b") == ["bypass", "bypass"]


# Under which key


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/v/a?x=1&y=2", "/v/a?y=2&x=1", True),
        ("/v/a?x=1&x=2&y=3", "/v/a?y=3&x=1&x=2", True),
        ("/v/a", "/v/a?", True),
        ("/v/a", "/v/%61", True),
        ("/v/a?x=1&x=2", "/v/a?x=2&x=1", False),
        ("/v/a?%78=1&x=2", "/v/a?x=2&%78=1", False),
        ("/v/a?x=1", "/v/a?x=2", False),
        ("/v/a?x=1", "/v/a", False),
        ("/v/a?x=1&y=", "/v/a?x=1", False),
        ("/v/a?x=1%26y=2", "/v/a?x=1&y=2", False),
        ("/v/a?x=1", "/v/a%3Fx=1", False),
        ("/v/a", "/v/b", False),
        ("/v/A", "/v/a", False),
        ("/v/%C3%A4", "/v/a", False),
    ],
)
def test_addresses_share_an_entry_only_where_they_are_the_same(
    app: App, one: str, other: str, same: bool
) -> None:
    app.view("/v/<name>", lambda name: {"name": name, "args": request.args.to_dict(flat=False)})
    first, second = app.get(one), app.get(other)
    assert second.headers["X-Cache"] == ("hit" if same else "miss")
    assert (first.json == second.json) == same


def test_a_host_has_its_own_entries_however_it_is_written(app: App) -> None:
    app.view("/a", lambda: request.host)
    hosts = ["a.example", "A.EXAMPLE", "b.example", "a.example:81"]
    seen = [app.get("/a", headers={"Host": host}).headers["X-Cache"] for host in hosts]
    assert seen == ["miss", "hit", "miss", "miss"]
    assert app.get("/a", base_url="https://a.example").headers["X-Cache"] == "miss"


def test_no_other_method_gets_or_leaves_an_entry(app: App) -> None:
    app.view("/a", lambda: request.method, methods=["GET", "POST"])
    client = app.flask.test_client()
    assert client.post("/a").headers.get("X-Cache") is None
    assert app.asked("/a") == ["miss"]
    assert client.post("/a").data == b"POST"
    head = client.head("/a")
    assert (head.headers["X-Cache"], head.data, head.content_length) == ("hit", b"", 3)


def test_head_leaves_no_entry_but_gets_the_headers_of_one(app: App) -> None:
    app.view("/a", lambda: "text")
    client = app.flask.test_client()
    assert [client.head("/a").headers["X-Cache"] for _ in range(2)] == ["miss", "miss"]
    got = client.get("/a")
    assert got.data == b"text"
    assert client.head("/a").headers["ETag"] == got.headers["ETag"]


@pytest.mark.parametrize("declared", [True, False])
def test_each_value_of_a_header_that_matters_has_an_entry(
    make_app: MakeApp, declared: bool
) -> None:
    app = make_app()
    named = {} if declared else {"Vary": "Accept-Language"}
    options = {"vary": ["Accept-Language"]} if declared else {}
    app.view("/a", lambda: (request.headers.get("Accept-Language", "-"), named), **options)

    for outcome in ("miss", "hit", "hit"):
        for language in ("de", "en", None):
            answer = app.get("/a", headers={"Accept-Language": language} if language else {})
            assert answer.headers["X-Cache"] == outcome
            assert answer.text == (language or "-")


def test_each_user_gets_his_own_where_that_is_declared(app: App) -> None:
    app.view("/me", lambda: request.args["u"] + request.headers["X-User"], user=lambda: who())

    def who() -> str:
        return request.headers["X-User"]

    for outcome in ("miss", "hit", "hit"):
        for user in ("alice", "bob"):
            answer = app.get("/me?u=1", headers={"X-User": user})
            assert (answer.headers["X-Cache"], answer.text) == (outcome, f"1{user}")


def test_without_a_guard_the_app_looks_at_a_request_before_the_cache(make_app: MakeApp) -> None:
    app = make_app(guard=None)
    app.view("/a", lambda: request.headers.get("Authorization", "nobody"))

    @app.flask.before_request
    def check() -> tuple[str, int] | None:
        return ("no", 401) if request.headers.get("X-Key") != "open" else None

    for authorization in ("A", "B"):
        headers = {"X-Key": "open", "Authorization": authorization}
        seen = [app.get("/a", headers=headers) for _ in range(2)]
        assert [it.headers["X-Cache"] for it in seen] == ["miss", "hit"]
        assert {it.text for it in seen} == {authorization}
    assert app.get("/a", headers={"Authorization": "A"}).status_code == 401


def test_a_session_that_is_read_keeps_its_answers_to_itself(app: App) -> None:
    app.view("/me", lambda: session.get("name", "nobody"))
    app.flask.add_url_rule(
        "/in/<name>",
        view_func=lambda name: session.update(name=name) or "in",
    )
    alice, bob = app.flask.test_client(), app.flask.test_client()
    alice.get("/in/alice")
    bob.get("/in/bob")
    for outcome in ("miss", "hit"):
        for name, client in (("alice", alice), ("bob", bob)):
            answer = app.get("/me", client)
            assert (answer.text, answer.headers["X-Cache"]) == (name, outcome)


# What a client gets


def test_a_client_that_has_the_answer_is_told_so(app: App) -> None:
    app.view("/a", lambda: ("text", {"Vary": "Accept"}))
    etag = app.get("/a").headers["ETag"]
    assert etag.startswith('"')
    for tags in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        answer = app.get("/a", headers={"If-None-Match": tags})
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == etag
        assert answer.headers["Vary"] == "Accept"
        assert answer.headers["X-Cache"] == "hit"
        assert "Content-Type" not in answer.headers
    assert app.get("/a", headers={"If-None-Match": '"x"'}).status_code == 200


def test_a_part_of_an_answer_is_the_views_own_matter(app: App) -> None:
    app.view("/a", lambda: "0123456789")
    app.get("/a")
    answer = app.get("/a", headers={"Range": "bytes=2-3"})
    assert (answer.headers["X-Cache"], answer.data) == ("bypass", b"0123456789")
    assert app.runs["/a"] == 2
    assert app.asked("/a") == ["hit"]


def test_a_client_asks_each_time_unless_the_view_gives_it_time(app: App) -> None:
    app.view("/a", lambda: "text")
    app.view("/b", lambda: "text", max_age=30)
    assert app.get("/a").headers["Cache-Control"] == "no-cache"
    assert app.get("/b").headers["Cache-Control"] == "max-age=30"


def test_a_hit_of_the_process_is_served_without_the_app(app: App) -> None:
    asked: list[str] = []
    app.view("/a", lambda: "text")
    app.flask.before_request(lambda: asked.append(request.path))
    assert app.asked("/a", "/a", "/a") == ["miss", "hit", "hit"]
    kept_here = len(app.cache.cache_of(app.flask).tier) > 0
    assert len(asked) == (1 if kept_here else 3)


# Stale


def test_a_stale_answer_is_served_at_once_while_it_is_computed_anew(app: App) -> None:
    app.view("/a", lambda: str(app.runs["/a"]), timeout=0.3, stale=60)
    assert app.get("/a").text == "1"
    until(lambda: app.asked("/a") == ["stale"], "stale")
    assert until(lambda: app.get("/a").text == "2", "the new answer")


def test_an_old_answer_is_served_where_a_new_one_fails(app: App) -> None:
    working = [True]

    def answer() -> Any:
        if working:
            return "text"
        raise LookupError("not here")

    app.view("/a", answer, timeout=0.2, stale_on_error=60)
    app.view("/b", lambda: "text" if working else ("busy", 503), timeout=0.2, stale_on_error=60)
    app.asked("/a", "/b")
    working.clear()
    for path in ("/a", "/b"):
        until(lambda path=path: app.asked(path) == ["stale"], "the old answer")  # type: ignore[misc]
        assert app.get(path).text == "text"
        assert app.runs[path] > 1


def test_an_error_without_an_old_answer_is_an_error(app: App) -> None:
    app.view("/a", _raises, stale_on_error=60)
    assert app.get("/a").status_code == 500


# Tags and prefixes


def test_a_tag_drops_what_carries_it_and_nothing_else(app: App) -> None:
    app.view("/a/<int:n>", lambda n: str(n), tags=lambda n: [f"a:{n}", "all"])
    app.asked("/a/1", "/a/2")
    with app.flask.app_context():
        assert app.cache.drop_tags("a:1")
    assert app.asked("/a/1", "/a/2") == ["miss", "hit"]
    with app.flask.app_context():
        app.cache.drop_tags("all")
    assert app.asked("/a/1", "/a/2") == ["miss", "miss"]


def test_a_prefix_drops_what_is_under_it(app: App, request: pytest.FixtureRequest) -> None:
    app.view("/a/<name>", lambda name: name)
    app.view("/b/<name>", lambda name: name)
    app.asked("/a/ä[*]", "/a/x", "/b/x")
    with app.flask.app_context():
        app.cache.drop_prefix("/a/")
    assert app.asked("/a/ä[*]", "/a/x") == ["miss", "miss"]
    if not any(name in request.node.name for name in ("FileSystemCache", "MemcachedCache")):
        assert app.asked("/b/x") == ["hit"]
    with app.flask.app_context():
        app.cache.clear()
    assert app.asked("/a/x", "/b/x") == ["miss", "miss"]


@pytest.mark.parametrize("drop", ["tag", "prefix", "everything"])
def test_what_is_computed_while_it_is_dropped_is_not_kept(app: App, drop: str) -> None:
    rows = ["old"]

    def answer() -> str:
        read = rows[0]
        if read == "old":
            rows[0] = "new"
            match drop:
                case "tag":
                    app.cache.drop_tags("rows")
                case "prefix":
                    app.cache.drop_prefix("/a")
                case _:
                    app.cache.clear()
        return read

    app.view("/a", answer, tags=["rows"])
    assert [app.get("/a").text for _ in range(3)] == ["old", "new", "new"]


# One computation


def test_those_who_ask_together_get_one_computation(app: App) -> None:
    def answer() -> str:
        sleep(0.3)
        return "text"

    app.view("/a", answer)
    got: list[str] = []
    threads = [Thread(target=lambda: got.append(app.get("/a").text)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["text"] * 16
    assert app.runs["/a"] == 1


def test_an_answer_that_is_not_kept_is_computed_for_everyone_at_once(app: App) -> None:
    def answer() -> tuple[str, dict[str, str]]:
        sleep(0.3)
        return "text", {"Cache-Control": "no-store"}

    app.view("/a", answer)
    began = monotonic()
    threads = [Thread(target=lambda: app.get("/a")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.runs["/a"] == 8
    # One after the other they would take 2.4 s.
    assert monotonic() - began < 2.2


# Processes


def test_a_change_in_one_process_is_seen_in_another_within_a_second(redis_url: str) -> None:
    config = {"CACHE_TYPE": "TieredCache", "CACHE_REDIS_URL": f"{redis_url}/0"}
    one, other = App(**config), App(**config)
    rows = ["old"]
    for app in (one, other):
        app.view("/a", lambda: rows[0], tags=["rows"])
        assert app.get("/a").text == "old"
        assert app.asked("/a") == ["hit"]
    rows[0] = "new"
    with one.flask.app_context():
        one.cache.drop_tags("rows")
    assert one.get("/a").text == "new"
    until(lambda: other.get("/a").text == "new", "the other process knows", limit=1)


def test_others_are_told_of_what_takes_the_place_of_another_answer_alone(redis_url: str) -> None:
    app = App(
        CACHE_TYPE="TieredCache", CACHE_REDIS_URL=redis_url, CACHE_DEFAULT_TIMEOUT=1, CACHE_STALE=60
    )
    app.view("/a", lambda: "text")
    redis = Redis.from_url(redis_url)

    def told() -> int:
        calls: int = redis.info("commandstats").get("cmdstat_publish", {}).get("calls", 0)
        return calls

    before = told()
    assert app.asked("/a") == ["miss"]
    assert told() == before
    until(lambda: app.asked("/a") == ["stale"], "it is stale")
    until(lambda: told() == before + 1, "it was computed anew")


def test_a_connection_that_was_lost_loses_the_tier(redis_url: str) -> None:
    app = App(CACHE_TYPE="TieredCache", CACHE_REDIS_URL=f"{redis_url}/0")
    app.view("/a", lambda: "text")
    app.asked("/a", "/a")
    tier = app.cache.cache_of(app.flask).tier
    assert len(tier) == 1
    redis = Redis.from_url(redis_url)
    redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
    until(lambda: len(tier) == 0, "the tier is empty")


# What is counted


def test_the_numbers_tell_what_came_of_every_request(app: App) -> None:
    app.view("/a", lambda: "text")
    app.asked("/a", "/a", "/a")
    with app.flask.app_context():
        said = until(
            lambda: (it := app.cache.report())["total"]["hits"] == 2 and it, "all is counted"
        )
    assert said["views"]["/a"]["misses"] == said["views"]["/a"]["computations"] == 1
    assert said["total"]["hit_ratio"] == pytest.approx(2 / 3, abs=1e-4)
    assert said["total"]["seconds_saved"] >= 0
    assert sum(said["total"]["by_tier"].values()) == 2


# In the store


def test_clearing_a_tag_takes_as_many_commands_however_much_there_is(redis_url: str) -> None:
    app = App(CACHE_TYPE="TieredCache", CACHE_REDIS_URL=redis_url, CACHE_KEY_PREFIX="")
    redis = Redis.from_url(redis_url)

    def commands() -> int:
        stats = redis.info("commandstats")
        watched = ("del", "unlink", "scan", "publish", "get", "mget", "set", "evalsha")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in watched)

    with app.flask.app_context():
        app.cache.set("mine", 1, tags=["few"])
        backend = app.cache.backend
        assert isinstance(backend.store, RedisStore)
        entry = entries.make("x", entries.Lifetime(0))
        entry.tags = backend.store.generations(("many",), 60)
        sealed = entries.seal(entry)
        taken = []
        for _ in range(2):
            before = commands()
            backend.store.drop((), ("few",), None)
            taken.append(commands() - before)
            with redis.pipeline(transaction=False) as pipeline:
                for n in range(100_000):
                    pipeline.set(f"entry:{n}", sealed)
                pipeline.execute()
        # Beside what it takes, the listener asks every quarter of a second.
        assert max(taken) <= 8
        assert app.cache.get("7") == "x"
        before = commands()
        assert app.cache.drop_tags("many")
        assert commands() - before <= 8
        assert app.cache.get("8") is None


@pytest.mark.parametrize(
    "poison", [b"", b"\x00" * 20, b"!" + pickle.dumps("x"), b"PSC\x02\x00\xc0", b"PSC\x01\x00\xc0"]
)
def test_a_poisoned_entry_is_a_miss_and_is_replaced(redis_url: str, poison: bytes) -> None:
    redis = Redis.from_url(redis_url)
    config = {"CACHE_TYPE": "TieredCache", "CACHE_REDIS_URL": redis_url, "CACHE_KEY_PREFIX": ""}
    first, other = App(**config), App(**config)
    for app in (first, other):
        app.view("/a", lambda: "text", tags=["a"])
    first.get("/a")
    [name] = redis.keys("entry:*")
    redis.set(name, poison)

    assert other.asked("/a", "/a") == ["miss", "hit"]


def test_an_entry_of_another_shape_is_a_miss(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    config = {"CACHE_TYPE": "TieredCache", "CACHE_REDIS_URL": redis_url, "CACHE_KEY_PREFIX": ""}
    first, other = App(**config), App(**config)
    for app in (first, other):
        app.view("/a", lambda: "text")
    first.get("/a")
    [name] = redis.keys("entry:*")
    for value in (1, [200, [], 10**12], [200, [["ETag"]], b"x"], ["x", {}, b""], [200, [], b""]):
        redis.set(name, entries.seal(entries.make(value, entries.Lifetime(60))))
        other.cache.cache_of(other.flask).tier.drop(prefix="")
        assert other.get("/a").text == "text"


# Memoized data


def test_a_memoized_function_is_computed_once_for_its_arguments(app: App) -> None:
    @app.cache.memoize(60, tags=lambda a, b=1: [f"a:{a}"])
    def add(a: int, b: int = 1) -> dict[str, object]:
        app.runs["add"] += 1
        return {"sum": a + b, "pair": (a, b)}

    with app.flask.app_context():
        assert [add(1), add(1, 1), add(a=1, b=1)] == [{"sum": 2, "pair": (1, 1)}] * 3
        assert app.runs["add"] == 1
        assert add(2) == {"sum": 3, "pair": (2, 1)}
        app.cache.drop_tags("a:1")
        add(1)
        add(2)
        assert app.runs["add"] == 3
        app.cache.delete_memoized(add, 2)
        add(1)
        add(2)
        assert app.runs["add"] == 4
        app.cache.delete_memoized(add)
        add(1)
        assert app.runs["add"] == 5
        with pytest.raises(TypeError, match=r"builtins\.object"):
            add(object())  # type: ignore[arg-type]


def test_a_memoized_value_that_cannot_be_carried_is_refused(app: App) -> None:
    @app.cache.memoize(60)
    def bad() -> object:
        return object()

    with app.flask.app_context(), pytest.raises(TypeError, match=r"builtins\.object"):
        bad()


def test_flask_cachings_calls_do_what_they_did(app: App) -> None:
    with app.flask.app_context():
        cache = app.cache
        assert cache.get("a") is None
        assert cache.set("a", {"x": [1]}, timeout=60)
        assert cache.get("a") == {"x": [1]}
        assert cache.add("a", 2) is False
        assert cache.add("b", 2) is True
        assert cache.get_many("a", "b", "c") == [{"x": [1]}, 2, None]
        assert cache.get_dict("a", "b") == {"a": {"x": [1]}, "b": 2}
        assert cache.has("b")
        cache.set_many({"c": 3, "d": 4})
        assert cache.delete("c")
        cache.delete_many("a", "b")
        assert cache.get_many("a", "b", "c", "d") == [None, None, None, 4]
        cache.set("short", 1, timeout=0.2)
        until(lambda: cache.get("short") is None, "it is over")
        with pytest.raises(TypeError, match=r"builtins\.object"):
            cache.set("e", object())
        cache.clear()
        assert cache.get("d") is None


def test_a_back_end_that_is_not_ours_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no 'RedisCache', only TieredCache"):
        App(CACHE_TYPE="RedisCache")
    with pytest.raises(ValueError, match="no subclass"):
        App(CACHE_TYPE="flask_caching.backends.NullCache")


def test_a_miss_asks_redis_twice_and_a_hit_of_another_process_once(redis_url: str) -> None:
    server = Redis.from_url(redis_url)
    apps = [App(CACHE_TYPE="TieredCache", CACHE_REDIS_URL=f"{redis_url}/0") for _ in range(2)]
    for app in apps:
        app.view("/<name>", lambda name: name, tags=["all"])
        app.asked("/first")

    def asked(app: App) -> tuple[str | None, int]:
        before: Any = server.info("commandstats")
        [outcome] = app.asked("/second")
        after: Any = server.info("commandstats")
        return outcome, after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"]

    assert asked(apps[0]) == ("miss", 2)
    assert asked(apps[1]) == ("hit", 1)


def test_an_answer_that_varies_and_has_tags_is_found_by_another_process(redis_url: str) -> None:
    apps = [App(CACHE_TYPE="TieredCache", CACHE_REDIS_URL=f"{redis_url}/0") for _ in range(2)]
    for app in apps:
        app.view("/v", lambda: Response("v", headers={"Vary": "Accept"}), tags=["all"])
    assert [app.asked("/v") for app in apps] == [["miss"], ["hit"]]
