"""Which letters are meant, and where a page of them begins."""

from base64 import urlsafe_b64encode
from math import inf
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.dead_letters import Cursor, Filters


@pytest.mark.parametrize(
    ("age", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("3d", 259200), ("0", 0), (60, 60)],
)
def test_an_age_is_seconds_or_has_a_unit(age: Any, seconds: float) -> None:
    assert Filters(older_than=age).older_than == seconds


@pytest.mark.parametrize(
    "age", ["", "h", "soon", "-1", "-1h", "nan", "inf", "1e999d", "1 h 2", "2w"]
)
def test_what_is_no_age_is_refused_with_what_is(age: Any) -> None:
    with pytest.raises(ValidationError, match="such as 2h"):
        Filters(newer_than=age)


def test_a_filter_by_nothing_means_all() -> None:
    assert Filters().is_empty
    assert Filters().window() == (-inf, inf)
    assert not Filters(job="").is_empty


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(1795359707.5202997, "j-1", -inf, inf),
        Cursor(inf, "", 0.1, 1795359707.5202997),
        Cursor(-inf, "é/:~?&\n", -1.0, 1e308),
    ],
)
def test_a_cursor_comes_back_as_it_was_given_out(cursor: Cursor) -> None:
    word = cursor.encode()

    assert Cursor.decode(word) == cursor
    assert word.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"{}",
        b"[]",
        b'[1,"a",2]',
        b'[1,"a",2,3,4]',
        b'["x","a",2,3]',
        b'[1,"a",2,[]]',
        b'[NaN,"a",1,2]',
        b'[1,"a",NaN,2]',
        b'[1%s,"a",2,3]' % (b"0" * 400),
        b"[" * 100_000,
    ],
)
def test_what_is_no_cursor_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.decode(urlsafe_b64encode(content).decode())


@pytest.mark.parametrize("word", ["x", "é", "=", "====", "\udcff", " ", "\0"])
def test_what_is_not_even_a_word_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.decode(word)
