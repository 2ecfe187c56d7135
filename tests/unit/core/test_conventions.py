import pytest
from celery import Celery

from penstock import install
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


def test_a_task_that_is_no_job_of_the_catalogue_keeps_its_own_limits(app: Celery) -> None:
    task = app.tasks["other.task"]
    assert isinstance(task, JobTask)
    assert (task.soft_time_limit, task.time_limit) == (None, None)


def test_a_message_leaves_the_broker_when_its_job_has_ended(app: Celery) -> None:
    task = app.tasks["other.task"]
    assert task.acks_late
    assert task.reject_on_worker_lost


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_runs_is_recorded_once(redis_url: str, times: int) -> None:
    settings = Settings(broker_url=f"{redis_url}/0", results_url=f"{redis_url}/1")
    app = plain_app(settings, times=times)
    app.tasks["other.task"].apply(task_id="j-1")
    record = Records.connect(settings).read("j-1")
    assert record
    assert (record.job, record.state, record.result) == ("other.task", State.SUCCESS, "done")
    assert record.attempts == 1
