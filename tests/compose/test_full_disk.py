"""What happens when nothing more can be written where the broker keeps its append-only file."""

import os
from collections import Counter
from collections.abc import Iterator
from time import monotonic

import pytest
import requests
from processes import until

from compose.conftest import FILES, Stack, started

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ORDER = {"amount": "1.00", "currency": "EUR"}
NEEDED = ("web", "payment", "provider")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """What a payment needs, with a broker that has 8 MB of disk."""
    files = (*FILES, "tests/compose/small_disk.yaml")
    name = f"penstock-small-{os.getpid()}"
    with started(name, tmp_path_factory.mktemp("small"), files, *NEEDED) as stack:
        yield stack


def written(stack: Stack) -> str:
    """Return what the broker says of its last write, as Prometheus' exporter of Redis reads it."""
    said = stack.redis("broker", "info", "persistence")
    return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)[
        "aof_last_write_status"
    ].strip()


def in_the_broker(stack: Stack, command: str) -> None:
    stack.run("exec", "-T", "broker", "sh", "-c", command)


def test_jobs_are_refused_while_the_disk_is_full_and_those_accepted_are_done_after_it(
    small: Stack,
) -> None:
    def pay(order: str) -> requests.Response:
        return small.api("POST", "/api/payments", {"order": order, **ORDER})

    small.run("stop", "payment")
    accepted = [pay(f"before-{number}").json()["task_id"] for number in range(3)]

    # Until there is no room for one byte more.
    in_the_broker(small, "cat /dev/zero > /data/filler 2>/dev/null || true")
    orders = (f"during-{number}" for number in range(1000))
    answers = [pay(next(orders))]
    while answers[-1].status_code == 202:
        answers.append(pay(next(orders)))
    accepted += [answer.json()["task_id"] for answer in answers[:-1]]

    began = monotonic()
    refused = pay("refused")
    assert monotonic() - began < 1.5
    assert refused.status_code == 503, refused.text
    assert refused.headers["Retry-After"]
    assert "the broker" in refused.json()["detail"]
    assert written(small) == "err"
    told = small.task("doctor").stderr
    assert "the broker cannot write its append-only file: is the disk full?" in told
    # Reads do not need the broker.
    assert small.api("GET", "/api/articles").status_code == 200
    # A worker that starts meanwhile waits, and is not taken for broken for good.
    small.run("start", "payment")

    in_the_broker(small, "rm /data/filler")
    until(lambda: written(small) == "ok", "the broker writes again")
    until(lambda: pay("after").status_code == 202, "jobs are accepted again")
    states = {job_id: small.ended(job_id)["state"] for job_id in accepted}
    assert set(states.values()) == {"SUCCESS"}
    charges = requests.get(f"{small.url('provider', 8090)}/ledger", timeout=10).json()
    references = Counter(charge["reference"] for charge in charges)
    assert max(references.values()) == 1
    assert len(references) == len(accepted) + 1
