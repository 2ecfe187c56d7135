"""Hit ratios of this project's policies and of Belady's optimum, on sequences that are known."""

from functools import cache
from random import Random

import pytest
from bench.policies.replay import belady, ours
from bench.policies.traces import loop

from penstock.cache.policies import Policy


def _best(trace: list[int], entries: int) -> int:
    """Return the most hits that any choice of what goes gives, by trying all of them."""

    @cache
    def most(position: int, kept: frozenset[int]) -> int:
        if position == len(trace):
            return 0
        key = trace[position]
        if key in kept:
            return 1 + most(position + 1, kept)
        if len(kept) < entries:
            return most(position + 1, kept | {key})
        return max(most(position + 1, kept - {gone} | {key}) for gone in kept)

    return most(0, frozenset())


@pytest.mark.parametrize("seed", range(60))
def test_belady_is_the_best_of_all_choices(seed: int) -> None:
    draw = Random(seed)
    trace = [draw.randrange(draw.randint(2, 7)) for _ in range(draw.randint(1, 22))]
    entries = draw.randint(1, 4)
    assert belady(trace, entries) == _best(trace, entries) / len(trace)


@pytest.mark.parametrize("policy", ["lru", "lfu", "random"])
def test_no_policy_is_above_belady_and_a_cache_of_everything_misses_once_each(
    policy: Policy,
) -> None:
    draw = Random(5)
    trace = [int(draw.paretovariate(0.7)) % 100 for _ in range(3_000)]
    ceiling = belady(trace, 20)
    assert 0.2 < ours(policy, trace, 20) < ceiling
    whole = 1 - len(set(trace)) / len(trace)
    assert ours(policy, trace, 100) == belady(trace, 100) == whole


@pytest.mark.parametrize(
    ("policy", "trace", "hits"),
    [
        # 2 was read longest ago and goes for 3; so only the second read of 1 and the last are hits.
        ("lru", [1, 2, 1, 3, 2, 3], 2),
        # 1 has been read twice and stays for good; 2 and 3 drive each other out.
        ("lfu", [1, 1, 2, 3, 2, 3, 1], 2),
        # Where LRU lets 1 go, which it has not read for two reads.
        ("lru", [1, 1, 2, 3, 2, 3, 1], 3),
    ],
)
def test_a_policy_lets_go_what_it_says(policy: Policy, trace: list[int], hits: int) -> None:
    assert ours(policy, trace, 2) == hits / len(trace)


def test_a_loop_larger_than_the_cache_is_lru_s_worst_case_and_not_random_s() -> None:
    reads = loop(110)
    trace = [next(reads) for _ in range(5_500)]
    assert ours("lru", trace, 100) == 0
    assert belady(trace, 100) == pytest.approx(0.9, abs=0.02)
    assert 0.7 < ours("random", trace, 100) < belady(trace, 100)
