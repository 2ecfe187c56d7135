"""Who goes when a bounded cache is full."""

from collections import Counter, OrderedDict
from random import Random

import pytest

from penstock.cache.policies import BoundedCache, Policy, bounded

POLICIES: list[Policy] = ["lru", "lfu", "random"]


def filled(policy: Policy, keys: str, **options: object) -> BoundedCache:
    cache = bounded(policy, entries=3, **options)  # type: ignore[arg-type]
    for key in keys:
        cache[key] = key
    return cache


def test_under_lru_the_entry_used_longest_ago_goes() -> None:
    cache = filled("lru", "abc")
    assert cache["a"] == "a"
    cache["d"] = "d"
    assert sorted(cache) == ["a", "c", "d"]


def test_under_lfu_the_entry_used_least_often_goes() -> None:
    cache = filled("lfu", "abc")
    for key in "aabc":
        assert cache[key] == key
    cache["c"]
    cache["d"] = "d"
    assert sorted(cache) == ["a", "c", "d"]


def test_under_lfu_the_least_recent_of_equals_goes() -> None:
    cache = filled("lfu", "abcd")
    assert sorted(cache) == ["b", "c", "d"]


def test_under_random_everyone_goes_equally_often() -> None:
    random = Random(7)
    gone: Counter[str] = Counter()
    for _ in range(3000):
        cache = filled("random", "abc", choice=random.choice, left=lambda key, _: gone.update(key))
        cache["d"] = "d"
    assert set(gone) == {"a", "b", "c"}
    assert all(900 < times < 1100 for times in gone.values())


@pytest.mark.parametrize("policy", POLICIES)
def test_neither_entries_nor_bytes_go_over_their_limit(policy: Policy) -> None:
    random = Random(1)
    cache = bounded(policy, entries=20, size=1000, sizeof=len)
    for _ in range(2000):
        cache[random.randrange(60)] = b"x" * random.randrange(120)
        cache.get(random.randrange(60))
        assert len(cache) <= 20
        assert sum(len(cache.peek(key)) for key in cache) == cache.currsize <= 1000


def test_lru_is_exact() -> None:
    random = Random(2)
    cache = bounded("lru", entries=10)
    model: OrderedDict[int, int] = OrderedDict()
    for _ in range(5000):
        key = random.randrange(25)
        assert (cache.get(key) is not None) == (key in model)
        model[key] = cache[key] = 1
        model.move_to_end(key)
        if len(model) > 10:
            model.popitem(last=False)
    assert set(cache) == set(model)


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_goes_for_what_is_too_large(policy: Policy) -> None:
    cache = filled(policy, "abc", size=10, sizeof=len)
    with pytest.raises(ValueError, match="too large"):
        cache["d"] = "d" * 11
    assert sorted(cache) == ["a", "b", "c"]


@pytest.mark.parametrize("policy", POLICIES)
def test_changing_an_entry_of_a_full_cache_keeps_the_others(policy: Policy) -> None:
    cache = filled(policy, "abc")
    cache["a"] = "A"
    assert {key: cache.peek(key) for key in cache} == {"a": "A", "b": "b", "c": "c"}


@pytest.mark.parametrize("policy", POLICIES)
def test_whoever_leaves_is_told_of_but_looking_is_no_use(policy: Policy) -> None:
    gone: list[str] = []
    cache = filled(policy, "abc", left=lambda key, _: gone.append(key))
    del cache["b"]
    cache["d"] = "d"
    assert gone == ["b"]
    if policy == "lru":
        assert "a" in cache
        assert cache.peek("a") == "a"
        cache["e"] = "e"
        assert gone == ["b", "a"]


def test_what_cannot_be_a_cache_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'fifo' is not lru, lfu or random"):
        bounded("fifo", entries=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="entries: 0"):
        bounded("lru", entries=0)
