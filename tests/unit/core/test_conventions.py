import pytest
from celery import Celery, Task

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


def test_what_the_guarantees_need_holds_also_when_the_app_is_configured_afterwards() -> None:
    app = plain_app()
    prefix = {"global_keyprefix": "theirs:"}
    app.config_from_object({"task_acks_late": False, "broker_transport_options": prefix})
    assert app.conf.task_acks_late
    assert app.conf.broker_channel_error_retry
    assert app.conf.broker_transport_options["global_keyprefix"] == "theirs:"
    assert app.conf.broker_transport_options["priority_steps"] == [0]


def test_an_app_keeps_its_results() -> None:
    assert not plain_app().conf.task_ignore_result


class InContext(Task):  # type: ignore[type-arg]
    """A task class as Flask's documentation has it."""

    def __call__(self, *args: object, **kwargs: object) -> str:
        return f"in context: {self.run(*args, **kwargs)}"


def test_an_app_keeps_its_own_task_class() -> None:
    app = install(Celery("theirs", task_cls=InContext, set_as_current=False), Settings())

    @app.task(shared=False)
    def theirs() -> str:
        return "done"

    assert theirs() == "in context: done"
    assert isinstance(app.tasks[theirs.name], JobTask)


def test_a_job_runs_eagerly_and_as_a_function_where_there_are_no_servers() -> None:
    nobody = "redis://127.0.0.1:1/0"
    app = Celery("theirs", broker=nobody, set_as_current=False)
    install(app, Settings(broker_url=nobody, results_url=nobody))
    app.conf.task_always_eager = True

    @app.task(bind=True, shared=False)  # type: ignore[arg-type]
    def theirs(self: JobTask) -> str:
        self.progress(1, 1)
        return "done"

    @app.task(bind=True, shared=False)  # type: ignore[arg-type]
    def guarded(self: JobTask) -> list[int]:
        done: list[int] = self.once("step", lambda: (1, 2))
        return done

    assert theirs.delay().get() == "done"
    assert guarded() == [1, 2]


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_runs_is_recorded_once(redis_url: str, times: int) -> None:
    settings = Settings(broker_url=f"{redis_url}/0", results_url=f"{redis_url}/1")
    app = plain_app(settings, times=times)
    app.tasks["other.task"].apply(task_id="j-1")
    record = Records.connect(settings).read("j-1")
    assert record
    assert (record.job, record.state, record.result) == ("other.task", State.SUCCESS, "done")
    assert record.attempts == 1
