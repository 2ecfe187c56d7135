"""The tier in the process: what it may serve, and what makes it forget."""

from time import monotonic, sleep

from penstock.cache.entries import Entry, Lifetime, make
from penstock.cache.tier import Tier


def tier(*, listened: bool = False, lease: float = 1.0, entries: int = 100) -> Tier:
    return Tier("lru", entries, 10**6, listened=listened, lease=lease)


def kept(tier: Tier, key: str, *tags: str) -> Entry:
    entry = make(key, Lifetime(60), tags=dict.fromkeys(tags, ""))
    tier.put(tier.begin(key, tags), entry)
    return entry


def test_what_is_dropped_by_key_tag_or_prefix_is_gone() -> None:
    it = tier()
    for key, tags in {"a": ["x"], "b": ["x", "y"], "c": ["y"], "/p/1": [], "/q/1": []}.items():
        kept(it, key, *tags)
    it.drop(["a"])
    it.drop(tags=["y"])
    it.drop(prefix="/p/")
    assert [key for key in ("a", "b", "c", "/p/1", "/q/1") if it.get(key)] == ["/q/1"]
    it.drop(prefix="")
    assert len(it) == 0


def test_a_value_on_its_way_is_not_kept_when_what_it_depends_on_changes() -> None:
    it = tier()
    entry = make("old", Lifetime(60))
    changes = [{"keys": ["a"]}, {"tags": ["x"]}, {"prefix": "a"}, {"prefix": ""}]
    for change in changes:
        filling = it.begin("a", ["x"])
        it.drop(**change)  # type: ignore[arg-type]
        it.put(filling, entry)
        assert it.get("a") is None
    filling = it.begin("a", ["x"])
    it.drop(["b"], ["y"], "b")
    it.put(filling, entry)
    assert it.get("a") is entry


def test_a_value_whose_tags_are_not_known_yet_is_dropped_with_any() -> None:
    it = tier()
    filling = it.begin("a")
    it.drop(tags=["x"])
    it.put(filling, make("old", Lifetime(60)))
    assert it.get("a") is None


def test_it_serves_nothing_older_than_its_lease_where_it_hears_nothing() -> None:
    it = tier(listened=True, lease=0.1)
    entry = kept(it, "a")
    assert it.get("a") is entry
    sleep(0.15)
    assert it.get("a") is None


def test_it_serves_while_it_is_told_of_changes() -> None:
    it = tier(listened=True, lease=0.1)
    entry = kept(it, "a")
    sleep(0.15)
    it.trust(monotonic())
    assert it.get("a") is entry


def test_a_connection_begun_anew_empties_it_and_what_is_on_its_way() -> None:
    it = tier(listened=True)
    kept(it, "a", "x")
    filling = it.begin("b")
    it.reconnected()
    it.put(filling, make("b", Lifetime(60)))
    assert it.get("a") is it.get("b") is None


def test_what_is_over_is_not_served() -> None:
    it = tier()
    it.put(it.begin("a"), make("a", Lifetime(0.01)))
    sleep(0.02)
    assert it.get("a") is None


def test_its_index_of_tags_does_not_outgrow_it() -> None:
    it = tier(entries=10)
    for n in range(1000):
        kept(it, str(n), f"tag:{n}", "all")
    assert len(it._tagged) == 11
    assert len(it._tagged["all"]) == 10
