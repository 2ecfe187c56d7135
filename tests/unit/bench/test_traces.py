"""The traces that eviction policies are compared on."""

from collections import Counter
from itertools import islice

import pytest
from bench.policies.traces import LOADS, POPULATION, Load, loop, scanned, shifting, zipf


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_a_trace_is_the_same_at_every_run_and_as_long_as_asked(load: Load) -> None:
    trace = load.trace(200, 3_000)
    assert trace == load.trace(200, 3_000)
    assert trace == load.trace(200, 4_000)[:3_000]
    assert len(trace) == 3_000


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.2])
def test_zipf_gives_each_rank_the_share_that_its_exponent_says(exponent: float) -> None:
    length = 200_000
    counts = Counter(islice(zipf(exponent), length))
    whole = sum(rank**-exponent for rank in range(1, POPULATION + 1))
    measured = [count for _, count in counts.most_common(20)]
    for rank, count in enumerate(measured, 1):
        expected = length * rank**-exponent / whole
        # Five standard deviations, and what sorting by the measured count adds.
        assert count == pytest.approx(expected, abs=5 * expected**0.5)


def test_zipf_deals_popularity_out_at_random() -> None:
    popular = [key for key, _ in Counter(islice(zipf(1.0), 50_000)).most_common(50)]
    assert popular != sorted(popular)
    assert max(popular) > POPULATION / 2


def test_scans_run_through_the_reads_of_others_in_order_and_over_everything() -> None:
    reads = list(islice(scanned(0.9, between=10, pages=4, population=6), 14 * 4))
    scans = [reads[start + 10 : start + 14] for start in range(0, len(reads), 14)]
    assert scans == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3]]
    people = [read for start in range(0, len(reads), 14) for read in reads[start : start + 10]]
    assert people == list(islice(zipf(0.9, 6), 40))


def test_the_loop_is_a_little_larger_than_the_cache() -> None:
    assert list(islice(loop(3), 7)) == [0, 1, 2, 0, 1, 2, 0]
    (load,) = [load for load in LOADS if load.name.startswith("loop")]
    assert set(load.trace(200, 2_000)) == set(range(220))


def test_the_hot_set_takes_its_share_and_moves() -> None:
    reads = list(islice(shifting(hot=20, share=0.9, every=2_000, population=10_000), 4_000))
    first, second = reads[:2_000], reads[2_000:]
    hot = [{key for key, _ in Counter(part).most_common(20)} for part in (first, second)]
    assert sum(key in hot[0] for key in first) == pytest.approx(1_800, abs=60)
    assert sum(key in hot[1] for key in second) == pytest.approx(1_800, abs=60)
    assert len(hot[0] & hot[1]) <= 2
