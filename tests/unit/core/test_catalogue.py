import json
import sys
from collections import Counter
from importlib import import_module

import pytest
from processes import environment, run
from pydantic import BaseModel

from penstock import contracts
from penstock.backoff import Backoff
from penstock.catalogue import BY_CONTRACT, BY_JOB, BY_QUEUE, QUEUE_OF, QUEUES, Job, Queue
from penstock.contracts import PaymentProcess
from penstock.settings import Settings
from penstock.stack import make_app
from penstock.task import JobTask


def queue_with(soft: int, hard: int, grace: int) -> Queue:
    job = Job("a.job", PaymentProcess, soft, hard, Backoff(retries=0, first=1))
    return Queue(name="a", package="a", jobs=(job,), concurrency=1, grace=grace)


def test_a_queue_whose_limits_fit_into_its_grace_is_taken() -> None:
    assert queue_with(soft=50, hard=60, grace=90).grace == 90


@pytest.mark.parametrize(
    ("soft", "hard", "grace"), [(60, 60, 90), (61, 60, 90), (50, 90, 90), (50, 91, 90)]
)
def test_a_queue_whose_limits_do_not_fit_is_refused_with_its_numbers(
    soft: int, hard: int, grace: int
) -> None:
    with pytest.raises(ValueError, match=rf"a\.job: .*not {soft} < {hard} < {grace}"):
        queue_with(soft, hard, grace)


def test_every_job_is_found_by_its_name_and_its_contract_and_no_two_share_either() -> None:
    jobs = [job for queue in QUEUES for job in queue.jobs]
    assert len(BY_QUEUE) == len(QUEUES)
    assert len(BY_JOB) == len(BY_CONTRACT) == len(jobs)
    assert {job.name for job in jobs} == QUEUE_OF.keys()


def test_every_message_among_the_contracts_is_one_jobs_message() -> None:
    # What a job answers with is named for the job's end (EmailSent), its parts for what they are.
    used = Counter(job.contract for job in BY_JOB.values())
    parts = {
        contracts.EmailContent,
        contracts.NotificationContent,
        contracts.Rendition,
        contracts.StoredFile,
    }
    models = {
        model
        for name in contracts.__all__
        if isinstance(model := getattr(contracts, name), type) and issubclass(model, BaseModel)
    }
    answers = {model for model in models if model.__name__.endswith(("ed", "Sent"))}
    assert models - parts - answers == set(used)
    assert set(used.values()) == {1}


def test_work_that_comes_by_the_clock_needs_nothing_in_its_message() -> None:
    clocked = [job for job in BY_JOB.values() if job.every]
    assert clocked
    for job in clocked:
        job.contract.model_validate({})


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_the_handlers_of_a_queue_are_exactly_its_jobs_with_their_limits(queue: Queue) -> None:
    module = f"{queue.package}.tasks"
    import_module(module)
    app = make_app(Settings())
    app.finalize()
    tasks = {name: task for name, task in app.tasks.items() if task.__module__ == module}
    assert tasks.keys() == {job.name for job in queue.jobs}
    for job in queue.jobs:
        task = tasks[job.name]
        assert isinstance(task, JobTask)
        assert (task.soft_time_limit, task.time_limit) == (job.soft_limit, job.hard_limit)
        assert (task.backoff, task.max_retries) == (job.backoff, job.backoff.retries)


def test_what_sends_jobs_imports_no_worker() -> None:
    code = "import json, sys, penstock.app, penstock_web; print(json.dumps(list(sys.modules)))"
    answer = run(sys.executable, "-c", code, env=environment())
    imported = {name.partition(".")[0] for name in json.loads(answer.stdout)}
    assert {"penstock", "penstock_web"} <= imported
    assert not imported & {queue.package for queue in QUEUES}
