"""How often something happened, counted by several threads at once."""

from concurrent.futures import ThreadPoolExecutor

from penstock.cache.numbers import BATCH, Numbers

TIMES = 5 * BATCH + 1


def test_every_event_is_counted_once_however_many_threads_count_and_take() -> None:
    numbers = Numbers()
    taken: list[dict[str, float]] = []

    def count(label: str) -> None:
        for number in range(TIMES):
            numbers.count(label, "hits", "process", 0.5)
            if number % 777 == 0:
                taken.append(numbers.take())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, "abab"))
    taken.append(numbers.take())

    for label in "ab":
        hits = sum(fields.get(f"{label}\thits\tprocess", 0) for fields in taken)
        saved = sum(fields.get(f"{label}\tsaved\t", 0) for fields in taken)
        assert (hits, saved) == (2 * TIMES, TIMES)


def test_what_could_not_be_handed_on_is_counted_with_what_came_since() -> None:
    numbers = Numbers()
    numbers.count("a", "misses")
    numbers.give_back(numbers.take())
    numbers.count("a", "misses")
    assert numbers.fields() == numbers.take() == {"a\tmisses\t": 2}
    assert numbers.take() == {}


def test_events_that_nobody_takes_need_no_more_memory() -> None:
    numbers = Numbers()
    for _ in range(TIMES):
        numbers.count("a", "hits", "process")
    assert len(numbers._events) < BATCH
    assert numbers.take() == {"a\thits\tprocess": TIMES}
