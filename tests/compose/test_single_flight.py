"""One computation for everybody who asks, over two processes in each of two containers."""

import os
from collections.abc import Iterator

import crowd
import pytest
from processes import until
from redis import Redis

from compose.conftest import Stack, started

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two containers of the image that `stack` has built."""
    name = f"penstock-pair-{os.getpid()}"
    files = ["tests/compose/single_flight.yaml"]
    with started(name, tmp_path_factory.mktemp("pair"), files) as pair:
        yield pair


@pytest.fixture
def runs(pair: Stack) -> Redis:
    return Redis.from_url(f"{pair.url('cache', 6379).replace('http', 'redis')}/1")


@pytest.fixture
def urls(pair: Stack) -> list[str]:
    urls = [pair.url(name, 8000) for name in ("one", "other")]
    for url in urls:
        until(lambda url=url: crowd.answers(url), f"{url} answers")  # type: ignore[misc]
    return urls


def test_a_cold_key_is_computed_once_for_64_clients_of_two_containers(
    urls: list[str], runs: Redis
) -> None:
    crowd.check_a_cold_key_is_computed_once(urls, runs, "/slow/cold")


def test_three_expiries_are_three_computations_and_nobody_waits(
    urls: list[str], runs: Redis
) -> None:
    crowd.check_an_expiry_is_one_computation_and_nobody_waits(urls, runs)
