"""Two requests have one key only where Flask could not tell them apart but by their order."""

from typing import Any
from urllib.parse import parse_qsl

from flask import Flask, request
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.cache import keys

# Few letters, and those that have a meaning in an address, so that many pairs are nearly the same.
LETTERS = st.text("ab/?&=%1+ \u00e4:#\x00~", max_size=6)
QUERIES = st.lists(
    st.sampled_from(
        ["a=1", "a=2", "a", "a=", "b=1", "%61=1", "", "a=1%26b=1", "b=+", "b=%20", "+=1"]
    ),
    max_size=4,
).map("&".join)
HOSTS = st.sampled_from(["a.example", "A.example", "b.example", "a.example:81", "a.example:1"])
HEADERS = st.fixed_dictionaries(
    {},
    optional={"HTTP_ACCEPT": st.sampled_from(["", "a", "a,b", "b"]), "HTTP_COOKIE": LETTERS},
)
NAMES = st.sets(st.sampled_from(["accept", "cookie"]))
USERS = st.none() | st.sampled_from(["", "alice", "bob"])
REQUESTS = st.tuples(
    st.sampled_from(["http", "https"]), HOSTS, LETTERS, LETTERS, QUERIES, HEADERS, NAMES, USERS
)
app = Flask(__name__)


def environ(asked: tuple[Any, ...]) -> dict[str, Any]:
    scheme, host, script, path, query, headers, _, _ = asked
    return {
        "REQUEST_METHOD": "GET",
        "wsgi.url_scheme": scheme,
        "HTTP_HOST": host,
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "SCRIPT_NAME": script,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        **headers,
    }


def key(asked: tuple[Any, ...]) -> str:
    given = environ(asked)
    return keys.variant(keys.of(given), given, asked[6], asked[7])


def meaning(asked: tuple[Any, ...]) -> Any:
    """Return all that a view could tell two requests apart by, but for the order of names.

    It also sees how a parameter was written, with an equals sign or without one for instance.
    """
    scheme, host, script, path, query, headers, names, user = asked
    with app.request_context({**environ(asked), "SCRIPT_NAME": "", "PATH_INFO": "/"}):
        arguments = {name: tuple(values) for name, values in request.args.lists()}
    written: dict[str, list[str]] = {}
    for piece in filter(None, query.split("&")):
        [(name, _)] = parse_qsl(piece, keep_blank_values=True)
        written.setdefault(name, []).append(piece)
    matter = {name: headers.get(f"HTTP_{name.upper()}") for name in names}
    return scheme, host.lower(), script, path, arguments, written, matter, user


@settings(max_examples=500, deadline=None)
@given(REQUESTS, REQUESTS)
def test_no_two_requests_that_differ_share_a_key(
    one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    assert (key(one) == key(other)) == (meaning(one) == meaning(other))


@settings(max_examples=500, deadline=None)
@given(REQUESTS, st.data())
def test_nor_do_two_that_differ_in_one_part_only(one: tuple[Any, ...], data: st.DataObject) -> None:
    parts = [st.sampled_from(["http", "https"]), HOSTS, LETTERS, LETTERS, QUERIES, HEADERS]
    place = data.draw(st.integers(0, len(parts) - 1))
    other = (*one[:place], data.draw(parts[place]), *one[place + 1 :])
    assert (key(one) == key(other)) == (meaning(one) == meaning(other))


def test_how_a_parameter_of_many_was_written_is_a_difference() -> None:
    one: tuple[Any, ...] = ("http", "a.example", "", "", "a=&a", {}, (), None)
    other: tuple[Any, ...] = ("http", "a.example", "", "", "a&a=", {}, (), None)
    assert key(one) != key(other)
    assert meaning(one) != meaning(other)


def test_a_key_shows_its_path() -> None:
    given = environ(("http", "a.example", "", "/api/a b", "x=1", {}, (), None))
    assert keys.of(given).startswith("/api/a%20b:")
