"""A job's record hears each run's end once, and the newest run last."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaitingError
from pathlib import Path
from time import time

import pytest
from redis import Redis
from servers import RedisServer

from penstock.broker import Broker
from penstock.records import CancelledError, Records, State


@pytest.fixture
def records(redis_url: str) -> Records:
    return Records(
        Redis.from_url(f"{redis_url}/1"), lambda: Broker(Redis.from_url(redis_url)), ttl=60
    )


def state(records: Records) -> State:
    record = records.read("j")
    assert record is not None
    return record.state


def test_a_job_is_pending_from_the_moment_it_is_accepted(records: Records) -> None:
    records.open("j", "email.send", "email")

    record = records.read("j")
    assert record is not None
    assert (record.state, record.queue, record.attempts) == (State.PENDING, "email", 0)


def test_every_start_is_counted(records: Records) -> None:
    for fence in (1, 2, 3):
        records.note("j", State.STARTED, fence, job="email.send")

    record = records.read("j")
    assert record is not None
    assert record.attempts == 3


def test_a_result_that_comes_after_a_newer_run_began_changes_nothing(records: Records) -> None:
    records.note("j", State.STARTED, 1)
    records.note("j", State.STARTED, 2)
    records.note("j", State.SUCCESS, 1, result='"old"')

    assert state(records) == State.STARTED
    records.note("j", State.SUCCESS, 2, result='"new"')
    record = records.read("j")
    assert record is not None
    assert record.result == "new"


@pytest.mark.parametrize("end", [State.SUCCESS, State.DEAD, State.EXPIRED])
def test_what_comes_after_the_end_of_a_run_changes_nothing(records: Records, end: State) -> None:
    records.note("j", end, 1)
    for late in (State.STARTED, State.PROGRESS, State.RETRY, State.DEAD, State.SUCCESS):
        records.note("j", late, 1)

    assert state(records) == end


def test_a_dead_job_that_is_replayed_moves_again(records: Records) -> None:
    records.note("j", State.DEAD, 4, error="e", reason="permanent error")
    records.note("j", State.STARTED, 5)

    assert state(records) == State.STARTED


def test_a_cancelled_job_does_not_begin_and_a_running_one_is_told(records: Records) -> None:
    records.open("j", "email.send", "email")
    assert records.cancel("j") == State.PENDING

    for unwanted in (State.STARTED, State.PROGRESS, State.RETRY):
        with pytest.raises(CancelledError):
            records.note("j", unwanted, 1)
    assert state(records) == State.CANCELLED


def test_a_job_that_had_its_effect_before_it_could_be_told_says_so(records: Records) -> None:
    records.note("j", State.STARTED, 1)
    records.cancel("j")
    records.note("j", State.SUCCESS, 1, result='"sent"')

    assert state(records) == State.SUCCESS


@pytest.mark.parametrize("end", [State.SUCCESS, State.DEAD, State.EXPIRED])
def test_a_job_that_has_ended_is_not_cancelled(records: Records, end: State) -> None:
    records.note("j", end, 1)

    assert records.cancel("j") == end
    assert state(records) == end


def test_an_unknown_job_is_not_cancelled(records: Records) -> None:
    assert records.cancel("j") is None
    assert records.read("j") is None


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[RedisServer]:
    """One server in both roles, which is away."""
    with RedisServer(tmp_path) as server:
        server.kill()
        yield server


def recording_in(server: RedisServer) -> Records:
    return Records(
        Redis.from_url(f"{server.url}/1"), lambda: Broker(Redis.from_url(server.url)), ttl=60
    )


def test_a_success_is_held_until_one_of_the_servers_is_back(killed: RedisServer) -> None:
    records = recording_in(killed)
    with ThreadPoolExecutor() as pool:
        note = pool.submit(records.note, "j", State.SUCCESS, 1, result='"done"')
        with pytest.raises(StillWaitingError):
            note.result(1)
        killed.start()
        note.result(10)

    assert state(records) == State.SUCCESS


@pytest.mark.parametrize("other", [State.STARTED, State.PROGRESS, State.DEAD])
def test_no_other_note_holds_a_job_up_while_both_servers_are_away(
    killed: RedisServer, other: State
) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(recording_in(killed).note, "j", other, 1).result(10)


# What became of all


def tallies(records: Records) -> dict[str, int]:
    return {f"{it.job} {it.state}": it.count for it in records.tallies()}


def test_an_end_is_counted_once_and_what_comes_late_is_not(records: Records) -> None:
    records.open("j", "email.send", "email")
    records.note("j", State.STARTED, 1)
    assert tallies(records) == {}
    for _ in range(2):
        records.note("j", State.SUCCESS, 1)
    records.note("j", State.DEAD, 1)
    assert tallies(records) == {"email.send SUCCESS": 1}


def test_a_job_that_is_replayed_ends_again(records: Records) -> None:
    records.note("j", State.DEAD, 1, job="email.send")
    records.note("j", State.PENDING, 2)
    records.note("j", State.SUCCESS, 3)
    assert tallies(records) == {"email.send DEAD": 1, "email.send SUCCESS": 1}


def test_a_job_is_cancelled_once(records: Records) -> None:
    records.open("j", "email.send", "email")
    for _ in range(2):
        records.cancel("j")
    with pytest.raises(CancelledError):
        records.note("j", State.STARTED, 1)
    assert tallies(records) == {"email.send CANCELLED": 1}


def test_the_time_that_runs_took_is_added_up(records: Records) -> None:
    now = time()
    for job_id, took in (("j-1", 2.5), ("j-2", 1.25)):
        records.note(job_id, State.STARTED, 1, job="email.send", started_at=now - took)
        records.apply({"id": job_id, "state": State.SUCCESS, "fence": 1, "at": now})
    # By the clock of another machine it ended before it began.
    records.note("j-3", State.STARTED, 1, job="email.send", started_at=now + 9)
    records.apply({"id": "j-3", "state": State.SUCCESS, "fence": 1, "at": now})
    [tally] = records.tallies()
    assert (tally.job, tally.state, tally.count) == ("email.send", "SUCCESS", 3)
    assert tally.seconds == pytest.approx(3.75, abs=0.01)
