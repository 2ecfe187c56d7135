import pytest
from redis import Redis

from penstock.records import Records, State
from penstock.settings import Settings


@pytest.fixture
def records(redis_url: str) -> Records:
    return Records.connect(Settings(results_url=f"{redis_url}/1", records_ttl=100))


def test_a_job_nobody_knows_has_no_record(records: Records) -> None:
    assert records.read("j") is None


def test_a_record_tells_the_way_of_a_job(records: Records) -> None:
    records.open("j", "report.export", "report")
    opened = records.read("j")
    assert opened
    assert (opened.job, opened.queue, opened.state) == ("report.export", "report", State.PENDING)
    assert opened.attempts == 0

    assert records.start("j", "report.export", "report") == 1
    records.progress("j", 5, 10)
    running = records.read("j")
    assert running
    assert (running.state, running.progress, running.total) == (State.PROGRESS, 5, 10)

    records.succeed("j", {"rows": 10})
    ended = records.read("j")
    assert ended
    assert (ended.state, ended.result, ended.attempts) == (State.SUCCESS, {"rows": 10}, 1)
    assert opened.queued_at
    assert running.started_at
    assert ended.finished_at
    assert opened.queued_at <= running.started_at <= ended.finished_at


def test_what_went_wrong_on_the_way_is_told_until_the_job_succeeds(records: Records) -> None:
    attempt = records.start("j", "payment.process", "payment")
    records.retry("j", "the provider is away", at=2_000_000_000, attempt=attempt)
    waiting = records.read("j")
    assert waiting
    assert (waiting.state, waiting.retry_at) == (State.RETRY, 2_000_000_000)

    records.start("j", "payment.process", "payment")
    again = records.read("j")
    assert again
    assert (again.state, again.attempts, again.retry_at) == (State.STARTED, 2, None)
    assert again.error == "the provider is away"

    records.succeed("j", None)
    ended = records.read("j")
    assert ended
    assert (ended.state, ended.error, ended.retry_at) == (State.SUCCESS, None, None)


@pytest.mark.parametrize("end", [State.SUCCESS, State.FAILURE])
def test_a_late_note_of_an_earlier_attempt_does_not_change_what_came_after(
    records: Records, end: State
) -> None:
    first = records.start("j", "payment.process", "payment")
    records.start("j", "payment.process", "payment")
    records.retry("j", "of the first", at=1, attempt=first)
    running = records.read("j")
    assert running
    assert (running.state, running.error) == (State.STARTED, None)

    if end == State.SUCCESS:
        records.succeed("j", None)
    else:
        records.fail("j", "of the second")
    ended = records.read("j")
    records.retry("j", "of the first", at=1, attempt=first)
    assert records.read("j") == ended


@pytest.mark.parametrize("state", [State.FAILURE, State.REVOKED])
def test_a_job_that_waits_for_a_retry_can_end_without_one(records: Records, state: State) -> None:
    attempt = records.start("j", "payment.process", "payment")
    records.retry("j", "the provider is away", at=2_000_000_000, attempt=attempt)
    records.fail("j", "no more", state)
    ended = records.read("j")
    assert ended
    assert (ended.state, ended.error, ended.retry_at) == (state, "no more", None)
    assert ended.finished_at


def test_a_record_is_kept_for_its_time_after_it_was_last_written(
    records: Records, redis_url: str
) -> None:
    redis = Redis.from_url(f"{redis_url}/1")
    records.open("j", "payment.process", "payment")
    [key] = redis.keys()
    redis.expire(key, 5)
    records.start("j", "payment.process", "payment")
    assert 95 <= int(redis.ttl(key)) <= 100


def test_a_job_that_was_not_queued_after_all_leaves_no_record(records: Records) -> None:
    records.open("j", "payment.process", "payment")
    records.forget("j")
    assert records.read("j") is None


def test_a_worker_goes_on_when_its_records_cannot_be_written() -> None:
    records = Records.connect(Settings(results_url="redis://127.0.0.1:1/1"))
    assert records.start("j", "payment.process", "payment") is None
    records.progress("j", 1, 2)
    records.retry("j", "the provider is away", at=1)
    records.succeed("j", None)
    records.fail("j", "no more")
    records.forget("j")
