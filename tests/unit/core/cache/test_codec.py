"""What the cache can carry, and what becomes of bytes that nobody can trust."""

import pickle
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.cache import codec
from penstock.cache.entries import Lifetime, make, seal, unseal

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(-(2**63), 2**63), inner)
        | st.frozensets(SCALARS)
        | st.sets(SCALARS)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES, st.sampled_from([0, 10]))
def test_what_is_carried_comes_back_as_it_was(value: Any, compress_above: int) -> None:
    again = codec.loads(codec.dumps(value, compress_above))
    assert again == value
    assert type(again) is type(value)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_unreadable_and_never_an_error(data: bytes) -> None:
    for poison in (data, codec.VERSION + codec.PLAIN + data, codec.VERSION + codec.PACKED + data):
        with suppress(codec.Unreadable):
            codec.loads(poison)
        assert unseal(poison) is None


class Bomb:
    """Tells when it is unpickled."""

    fired = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "fired", True)


@pytest.mark.parametrize("head", [b"", b"!", codec.VERSION + codec.PLAIN, codec.VERSION])
def test_a_pickle_is_never_executed(head: bytes) -> None:
    poison = head + pickle.dumps(Bomb())
    assert unseal(poison) is None
    with pytest.raises(codec.Unreadable):
        codec.loads(poison)
    assert not Bomb.fired


def test_another_version_is_unreadable() -> None:
    data = codec.dumps("text")
    with pytest.raises(codec.Unreadable, match="not of this version"):
        codec.loads(b"PSC\x02" + data[4:])


@pytest.mark.parametrize("cut", [1, 4, 5, 20, -1])
def test_a_cut_off_entry_is_none(cut: int) -> None:
    for compress_above in (0, 1):
        data = seal(make("text" * 100, Lifetime(60)), compress_above)
        assert unseal(data) is not None
        assert unseal(data[:cut]) is None


def test_an_entry_whose_value_is_no_value_is_none() -> None:
    entry = make("text", Lifetime(60))
    entry.payload = pickle.dumps("text")
    assert unseal(seal(entry)) is None


class Level(IntEnum):
    ONE = 1


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "builtins.object"),
        ([{"a": 1j}], "builtins.complex"),
        (Level.ONE, "Level"),
        (Text("x"), "Text"),
        (len, "builtin_function_or_method"),
        (Bomb(), "Bomb"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_type(value: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        codec.dumps(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="recursion limit"):
        codec.dumps(value)


def test_a_large_value_is_compressed_where_that_is_asked_for() -> None:
    text = "penstock " * 1000
    assert len(codec.dumps(text, 1000)) < len(codec.dumps(text)) / 10
    assert codec.dumps("short", 1000) == codec.dumps("short")


def test_a_small_bomb_does_not_become_a_large_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "LARGEST", 10_000)
    with pytest.raises(codec.Unreadable, match="larger"):
        codec.loads(codec.dumps("x" * 20_000, 1))


def test_the_types_that_are_promised() -> None:
    value = {
        "moment": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        "day": date(2026, 1, 2),
        "time": time(3, 4),
        "span": timedelta(days=-1, microseconds=5),
        "money": Decimal("19.90"),
        "id": UUID(int=7),
        "pair": (1, [2, (3,)]),
        "large": 10**400,
    }
    assert codec.loads(codec.dumps(value)) == value
