"""Sequences of reads, as numbers of what is read; the same at every run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from random import Random

SEED = 20261125
# How many different things are read, unless a trace says otherwise.
POPULATION = 2_500

Trace = list[int]


@dataclass(frozen=True)
class Load:
    """A kind of traffic. `reads(entries)` yields reads without end, for a cache of that size."""

    name: str
    reads: Callable[[int], Iterator[int]]

    def trace(self, entries: int, length: int) -> Trace:
        """Return the first `length` reads."""
        return list(islice(self.reads(entries), length))


def zipf(exponent: float, population: int = POPULATION, seed: int = SEED) -> Iterator[int]:
    """Yield reads of which the k-th most popular thing gets a share in proportion to k^-exponent.

    Popularity says nothing about the number: the ranks are dealt out at random.
    """
    draw = Random(seed)
    things = list(range(population))
    draw.shuffle(things)
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(population)))
    while True:
        yield from draw.choices(things, cum_weights=weights, k=1_000)


def scanned(
    exponent: float = 0.9,
    between: int = 2_000,
    pages: int = 500,
    population: int = POPULATION,
    seed: int = SEED,
) -> Iterator[int]:
    """Yield Zipf reads, and after each `between` of them `pages` that a crawler reads in order.

    The crawler goes on where it stopped and begins again after the last; it reads everything once,
    of which the others read only a part.
    """
    people = zipf(exponent, population, seed)
    crawled = 0
    while True:
        yield from islice(people, between)
        for _ in range(pages):
            yield crawled
            crawled = (crawled + 1) % (2 * population)


def loop(length: int) -> Iterator[int]:
    """Yield 0, 1, ... length - 1, over and over."""
    while True:
        yield from range(length)


def shifting(
    hot: int = 150,
    share: float = 0.9,
    every: int = 5_000,
    population: int = POPULATION,
    seed: int = SEED,
) -> Iterator[int]:
    """Yield reads of which `share` go to `hot` things, all of them others after `every` reads.

    Within the hot ones, and within everything for the rest, each is as likely as the other.
    """
    draw = Random(seed)
    while True:
        now = draw.sample(range(population), hot)
        for _ in range(every):
            yield draw.choice(now) if draw.random() < share else draw.randrange(population)


def _zipf(exponent: float) -> Load:
    return Load(f"Zipf {exponent}", lambda entries: zipf(exponent))


LOADS = [
    *map(_zipf, (0.8, 0.9, 1.0, 1.1, 1.2)),
    Load("Zipf 0.9 with scans", lambda entries: scanned()),
    Load("loop of 1.1 x the cache", lambda entries: loop(entries * 11 // 10)),
    Load("shifting hot set", lambda entries: shifting()),
]
