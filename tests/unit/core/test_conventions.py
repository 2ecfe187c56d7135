import pytest
from celery import Celery
from celery.exceptions import QueueNotFound

from penstock import install
from penstock.catalogue import BY_JOB, BY_QUEUE, QUEUE_OF
from penstock.records import Records, State
from penstock.settings import Settings
from penstock.task import JobTask


def plain_app(settings: Settings | None = None, *, times: int = 1) -> Celery:
    """Return an app as others have it, with a task of its own."""
    app = Celery("plain", set_as_current=False)
    for _ in range(times):
        assert install(app, settings or Settings()) is app

    @app.task(name="other.task", shared=False)
    def other() -> str:
        return "done"

    return app


@pytest.fixture(params=[1, 2], ids=["installed once", "installed twice"])
def app(request: pytest.FixtureRequest) -> Celery:
    return plain_app(times=request.param)


@pytest.mark.parametrize("job", BY_JOB)
def test_a_job_goes_to_its_queue_by_its_name_alone(app: Celery, job: str) -> None:
    assert app.amqp.router.route({}, job)["queue"].name == QUEUE_OF[job]


def test_a_queue_that_is_not_in_the_catalogue_is_refused(app: Celery) -> None:
    with pytest.raises(QueueNotFound):
        app.amqp.router.route({"queue": "nope"}, "payment.process")
    assert app.amqp.queues.keys() == BY_QUEUE.keys()


def test_a_task_that_is_no_job_of_the_catalogue_keeps_its_own_limits(app: Celery) -> None:
    task = app.tasks["other.task"]
    assert isinstance(task, JobTask)
    assert (task.soft_time_limit, task.time_limit) == (None, None)


def test_a_message_leaves_the_broker_when_its_job_has_ended(app: Celery) -> None:
    task = app.tasks["other.task"]
    assert task.acks_late
    assert task.reject_on_worker_lost


def test_the_clock_sends_what_the_catalogue_says_and_lets_it_expire_before_the_next(
    app: Celery,
) -> None:
    schedule = app.conf.beat_schedule
    assert schedule.keys() == {job.name for job in BY_JOB.values() if job.every}
    for name, entry in schedule.items():
        job = BY_JOB[name]
        assert (entry["task"], entry["schedule"]) == (name, job.every)
        assert entry["options"]["expires"] == job.every
        job.contract.model_validate(entry["kwargs"]["job"])


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_runs_is_recorded_once(redis_url: str, times: int) -> None:
    settings = Settings(broker_url=f"{redis_url}/0", results_url=f"{redis_url}/1")
    app = plain_app(settings, times=times)
    app.tasks["other.task"].apply(task_id="j-1")
    record = Records.connect(settings).read("j-1")
    assert record
    assert (record.job, record.state, record.result) == ("other.task", State.SUCCESS, "done")
    assert record.attempts == 1
