import pytest
from celery import Celery
from celery.exceptions import QueueNotFound

from penstock.catalogue import BY_JOB, BY_QUEUE, QUEUE_OF
from penstock.settings import Settings
from penstock.stack import make_app


@pytest.fixture
def app() -> Celery:
    return make_app(Settings())


@pytest.mark.parametrize("job", BY_JOB)
def test_a_job_goes_to_its_queue_by_its_name_alone(app: Celery, job: str) -> None:
    assert app.amqp.router.route({}, job)["queue"].name == QUEUE_OF[job]


def test_a_queue_that_is_not_in_the_catalogue_is_refused(app: Celery) -> None:
    with pytest.raises(QueueNotFound):
        app.amqp.router.route({"queue": "nope"}, "payment.process")
    assert app.amqp.queues.keys() == BY_QUEUE.keys()


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
