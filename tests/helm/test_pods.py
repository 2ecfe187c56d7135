"""The single-node release on a real engine: it starts, and an upgrade loses nothing.

See `helm.pods` for what stands for Kubernetes here, and for what does not.
"""

import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Self
from uuid import uuid4

import pytest
import requests

from helm.chart import GIVEN, Rendered, with_values
from helm.pods import Cluster, cluster, docker
from penstock_dev.embedded import ROOT

pytestmark = [pytest.mark.helm, pytest.mark.docker, pytest.mark.timeout(900)]

OLD, NEW = "chart-old", "chart-new"
SERVICES = ("web", "email", "image", "report", "payment", "scheduler", "flower", "dev")
# A Service is a name here, so its port has to be its pods'. Two pods of web, so that each is
# rolled; and retries that come while the tests run.
VALUES = f"""{GIVEN}
web: {{replicas: 2, service: {{port: 8000}}}}
jobs: {{retryScale: 0.02}}
monitoring: {{redisExporter: {{enabled: true}}}}
"""


def values(tag: str) -> Rendered:
    """Return the release with the images of a tag."""
    return with_values(f"{VALUES}image: {{tag: {tag}}}\n", "single-node")


@pytest.fixture(scope="module")
def images() -> None:
    """The images of this code under two tags, as of two versions."""
    for service in SERVICES:
        words = ("--file", "deploy/Dockerfile", "--build-arg", f"SERVICE={service}")
        subprocess.run(
            ["docker", "build", "--quiet", *words, "--tag", f"penstock-{service}:{OLD}", "."],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        docker("tag", f"penstock-{service}:{OLD}", f"penstock-{service}:{NEW}")


@pytest.fixture(scope="module")
def release(images: None) -> Iterator[Cluster]:
    with cluster() as made:
        made.apply(values(OLD), servers_after=10)
        yield made
    assert made.left() == []


@dataclass
class Load:
    """Reads and payments, each over a connection of its own to a pod that is ready, as a Service
    hands them out. Nothing is asked twice: what fails has failed."""

    release: Cluster
    accepted: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stopping = Event()
        self._lock = Lock()
        self._threads = [Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.1):
            order = f"load-{uuid4().hex}"
            body = {"order": order, "amount": "1.00", "currency": "EUR"}
            self.ask("GET", "/api/articles?per_page=5")
            answer = self.ask("POST", "/api/payments", body)
            if answer is not None and answer.ok:
                with self._lock:
                    self.accepted[order] = answer.json()["task_id"]

    def ask(self, method: str, path: str, body: object = None) -> requests.Response | None:
        """Return the answer of one pod of web; what is not answered well is noted."""
        pod = random.choice(self.release.endpoints("web"))
        try:
            answer = requests.request(
                method,
                f"http://{pod.address}:8000{path}",
                json=body,
                headers={"Authorization": "Bearer k"},
                timeout=10,
            )
        except requests.RequestException as error:
            self.failed.append(f"{method} {path} at {pod.name}: {error}")
            return None
        self.answers[answer.status_code] += 1
        if not answer.ok:
            self.failed.append(f"{method} {path} at {pod.name}: {answer.status_code} {answer.text}")
        return answer

    def states(self, limit: float = 90) -> Counter[str]:
        """Return how the accepted jobs ended."""
        deadline = monotonic() + limit
        ended: Counter[str] = Counter()
        for job in self.accepted.values():
            while True:
                answer = self.ask("GET", f"/api/task-status/{job}")
                if answer is not None and answer.status_code == 200:
                    ended[answer.json()["state"]] += 1
                    break
                assert monotonic() < deadline, f"{job} has not ended"
                sleep(0.2)
        return ended


def test_every_pod_is_ready_in_time_and_without_a_restart(release: Cluster) -> None:
    seconds = {pod.name: pod.seconds for pod in release.pods if pod.ready.is_set()}
    assert len(seconds) == 15
    assert max(seconds.values()) < 120, seconds
    print({name.rpartition("penstock-")[2]: round(it, 1) for name, it in seconds.items()})


def test_the_tests_of_the_release_pass(release: Cluster) -> None:
    said = release.test(values(OLD))
    assert {line.partition(":")[0] for line in said.splitlines()} == {
        *("image", "report", "email", "payment"),
    }


def test_an_exporter_reads_its_redis(release: Cluster) -> None:
    exporting = [pod for pod in release.pods if pod.beside]
    assert {pod.part for pod in exporting} == {"broker", "results", "cache", "files"}
    for pod in exporting:
        said = requests.get(f"http://{pod.address}:9121/metrics", timeout=10).text.splitlines()
        assert {"redis_up 1", 'redis_exporter_last_scrape_error{err=""} 0'} <= {*said}


def test_an_upgrade_under_load_loses_no_job_and_fails_no_request(release: Cluster) -> None:
    servers = {pod.name for pod in release.pods if pod.part in ("broker", "postgresql")}
    with Load(release) as load:
        sleep(3)
        release.apply(values(NEW))
        sleep(3)
    assert servers <= {pod.name for pod in release.pods}
    images = {pod.container["image"] for pod in release.pods if pod.part in ("web", "payment")}
    assert {image.partition(":")[2] for image in images} == {NEW}

    states = load.states()
    [provider] = [pod for pod in release.pods if pod.part == "provider"]
    print(f"{len(load.accepted)} jobs, {sum(load.answers.values())} answers, {dict(states)}")
    assert load.failed == []
    assert states == {"SUCCESS": len(load.accepted)}
    assert len(load.accepted) > 20
    assert provider.faults == []


def test_a_rollback_finds_the_schema_as_it_is_and_goes_on(release: Cluster) -> None:
    with Load(release) as load:
        release.apply(values(OLD))
        sleep(1)
    assert load.failed == []
    assert load.states() == {"SUCCESS": len(load.accepted)}


def test_an_uninstallation_waits_for_no_server_that_is_gone(release: Cluster) -> None:
    """The last one, since nothing is there after it. A report's grace would be 16 minutes."""
    began = monotonic()
    release.uninstall()
    assert monotonic() - began < 60
