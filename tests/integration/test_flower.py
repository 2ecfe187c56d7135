"""Flower as an operator runs it: behind its sign-in, beside a worker that did a job."""

import io
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
import requests
from PIL import Image
from processes import Running, environment, free_port, run, until
from pydantic import SecretStr

from integration.conftest import client_of
from penstock.settings import Settings

SIGN_IN = ("admin", "p:ss w@rd")


@pytest.fixture(scope="module")
def settings(shared_settings: Settings) -> Settings:
    flower_bind = f"127.0.0.1:{free_port()}"
    sign_in = SecretStr(":".join(SIGN_IN))
    return shared_settings.model_copy(
        update={"flower_bind": flower_bind, "flower_sign_in": sign_in}
    )


@pytest.fixture(scope="module")
def url(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Flower that answers."""
    url = f"http://{settings.flower_bind}"

    def alive() -> bool:
        try:
            return requests.get(f"{url}/healthcheck", timeout=5).text == "OK"
        except requests.ConnectionError:
            return False

    log = tmp_path_factory.mktemp("flower") / "flower.log"
    with Running("penstock-flower", env=environment(settings), log=log) as flower:
        flower.until(alive, "Flower answers")
        yield url


@pytest.fixture(scope="module")
def worker(
    url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("worker")
    heartbeat = folder / "heartbeat"
    with Running(
        *("celery", "--app", "penstock.app", "worker", "--queues", "image"),
        *("--hostname", "image@test"),
        env=environment(settings, heartbeat=heartbeat),
        log=folder / "worker.log",
    ) as worker:
        worker.until(heartbeat.exists, "the worker is ready")
        yield worker


@pytest.mark.parametrize("path", ["/", "/workers", "/tasks", "/broker", "/api/workers"])
def test_without_the_password_flower_shows_nothing(url: str, path: str) -> None:
    for sign_in in (None, ("admin", "wrong"), ("other", SIGN_IN[1])):
        answer = requests.get(url + path, auth=sign_in, timeout=10)
        assert answer.status_code == 401
        assert "worker" not in answer.text.lower()


def test_the_health_check_needs_no_password(url: str) -> None:
    answer = requests.get(f"{url}/healthcheck", timeout=10)
    assert (answer.status_code, answer.text) == (200, "OK")


def test_flower_lists_the_workers_that_run_and_the_jobs_they_did(
    url: str, worker: Running, settings: Settings
) -> None:
    def get(path: str) -> requests.Response:
        answer = requests.get(url + path, auth=SIGN_IN, timeout=30)
        assert answer.status_code == 200
        return answer

    # Events are not repeated: what happens before Flower listens it never sees.
    until(lambda: "image@test" in get("/workers").text, "Flower has seen the worker")
    picture = io.BytesIO()
    Image.new("RGB", (20, 10)).save(picture, "PNG")
    picture.seek(0)
    client = client_of(settings)
    accepted = client.post("/api/images", data={"file": (picture, "dam.png")}).get_json()
    task_id = accepted["task_id"]
    worker.until(lambda: client.get(accepted["status_url"]).status_code == 200, "the job has ended")
    assert client.get(accepted["status_url"]).get_json()["state"] == "SUCCESS"

    def done() -> bool:
        task = get("/api/tasks").json().get(task_id)
        return bool(task) and task["state"] == "SUCCESS"

    until(done, "Flower has seen the job succeed")
    task = get("/api/tasks").json()[task_id]
    assert (task["name"], task["worker"]) == ("image.process", "image@test")
    assert "image.process" in get(f"/task/{task_id}").text
    assert get("/api/workers?refresh=1").json()["image@test"]["registered"] == ["image.process"]


def test_a_worker_that_is_gone_leaves_the_page(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("purge")
    own = settings.model_copy(
        update={"flower_bind": f"127.0.0.1:{free_port()}", "state": folder / "state"}
    )
    # In 10 minutes, but for the test.
    soon = "from penstock_flower import main; main.PURGE_AFTER = 1; main.main()"
    heartbeat = folder / "heartbeat"

    def workers() -> str:
        with suppress(requests.ConnectionError):
            return requests.get(f"http://{own.flower_bind}/workers", auth=SIGN_IN, timeout=30).text
        return ""

    with Running(
        sys.executable, "-c", soon, env=environment(own), log=folder / "flower.log"
    ) as flower:
        flower.until(workers, "Flower answers")
        with Running(
            *("celery", "--app", "penstock.app", "worker", "--queues", "image"),
            *("--hostname", "image@gone"),
            env=environment(own, heartbeat=heartbeat),
            log=folder / "worker.log",
        ) as worker:
            flower.until(lambda: "image@gone" in workers(), "Flower has seen the worker")
            worker.end(signal.SIGKILL)
        flower.until(lambda: "image@gone" not in workers(), "the worker has left the page")


# The beginning


def refusal(settings: Settings) -> str:
    """Return the one line with which Flower refuses to start."""
    answer = run("penstock-flower", env=environment(settings))
    assert answer.returncode == 2
    [line] = answer.stderr.splitlines()
    return line


@pytest.mark.parametrize("sign_in", ["", "admin:"])
def test_without_a_sign_in_flower_does_not_start(settings: Settings, sign_in: str) -> None:
    line = refusal(settings.model_copy(update={"flower_sign_in": sign_in}))
    assert "PENSTOCK_FLOWER_SIGN_IN is not set: set it to user:password" in line


@pytest.mark.parametrize("sign_in", ["admin:a,b", "admin:ö"])
def test_a_sign_in_that_flower_would_take_for_another_is_refused(
    settings: Settings, sign_in: str
) -> None:
    line = refusal(settings.model_copy(update={"flower_sign_in": sign_in}))
    assert "PENSTOCK_FLOWER_SIGN_IN must be ASCII without a comma" in line
    assert sign_in not in line


def test_a_port_in_use_is_named_with_its_setting(settings: Settings) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        flower_bind = f"127.0.0.1:{other.getsockname()[1]}"
        line = refusal(settings.model_copy(update={"flower_bind": flower_bind}))
    assert f"{flower_bind} is in use" in line
    assert "PENSTOCK_FLOWER_BIND" in line
