import pytest

from penstock.backoff import Backoff


def test_without_jitter_each_delay_is_a_factor_longer_than_the_one_before() -> None:
    backoff = Backoff(retries=4, first=10, factor=3, jitter=(1, 1))
    assert [backoff.delay(retry) for retry in range(4)] == [10, 30, 90, 270]


def test_no_delay_is_longer_than_the_cap() -> None:
    backoff = Backoff(retries=50, first=10, cap=900, jitter=(1, 1))
    assert [backoff.delay(retry) for retry in (6, 7, 50)] == [640, 900, 900]


@pytest.mark.parametrize("jitter", [(0, 1), (0.5, 1.5)])
def test_jitter_spreads_the_delays_over_its_whole_range(jitter: tuple[float, float]) -> None:
    backoff = Backoff(retries=1, first=100, jitter=jitter)
    delays = [backoff.delay(0) for _ in range(1000)]
    low, high = (100 * part for part in jitter)
    tenth = (high - low) / 10
    assert low <= min(delays) < low + tenth
    assert high - tenth < max(delays) <= high


def test_the_scale_multiplies_every_delay_and_0_takes_it_away() -> None:
    backoff = Backoff(retries=1, first=10, cap=15, jitter=(1, 1))
    assert [backoff.delay(retry, scale=0.1) for retry in (0, 1)] == [1, 1.5]
    assert backoff.delay(0, scale=0) == 0
