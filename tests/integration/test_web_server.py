"""The web tier as an operator runs it: Gunicorn, asked over the wire."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from processes import Running, environment, free_port, run
from redis import Redis

from integration.conftest import KEY
from penstock.settings import Settings

COMMAND = ("gunicorn", "--config", "python:penstock_web.gunicorn_conf", "penstock_web.asgi:app")
# Also as a WSGI application, for those who have reason to.
WSGI = (*COMMAND[:-1], "--worker-class", "gthread", "--threads", "8", "penstock_web.wsgi:app")
UPLOAD_MAX = 1024 * 1024
SIGNED_IN = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def settings(shared_settings: Settings) -> Settings:
    web_bind = f"127.0.0.1:{free_port()}"
    return shared_settings.model_copy(update={"web_bind": web_bind, "upload_max": UPLOAD_MAX})


@pytest.fixture(scope="module", params=[COMMAND, WSGI], ids=["asgi", "gthread"])
def url(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a web tier that serves."""
    url = f"http://{settings.web_bind}"
    log = tmp_path_factory.mktemp("web") / "web.log"
    with Running(*request.param, env=environment(settings), log=log) as server:
        server.until(lambda: answers("GET", f"{url}/livez"), "the web tier answers")
        yield url
        assert server.end() == 0


def answers(method: str, url: str) -> bool:
    """Return whether a server is there and takes a request."""
    try:
        return requests.request(method, url, headers=SIGNED_IN, timeout=5).ok
    except requests.ConnectionError:
        return False


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536):
        yield b" " * 65536


# Answers


def test_probes_reads_and_jobs_are_served(url: str, settings: Settings) -> None:
    for probe in ("/livez", "/readyz"):
        assert requests.get(url + probe, timeout=10).json() == {"status": "ok"}
    for _ in range(10):
        read = requests.get(f"{url}/api/articles/1", headers=SIGNED_IN, timeout=10)
        assert (read.status_code, read.json()["id"]) == (200, 1)
    payment = {"order": "o-1", "amount": "19.90", "currency": "EUR"}
    broker: Redis = Redis.from_url(settings.broker_url)
    before = int(broker.llen("payment"))
    for _ in range(10):
        job = requests.post(f"{url}/api/payments", json=payment, headers=SIGNED_IN, timeout=10)
        assert job.status_code == 202
    assert broker.llen("payment") == before + 10


@pytest.mark.parametrize("headers", [SIGNED_IN, {}], ids=["with the key", "without the key"])
def test_an_upload_far_over_the_limit_gets_its_answer_and_not_a_reset(
    url: str, headers: dict[str, str]
) -> None:
    # Several, because whether a reset overtakes the answer is a matter of chance.
    for _ in range(5):
        answer = requests.post(
            f"{url}/api/images",
            files={"file": ("dam.jpg", b"x" * 50 * 1024 * 1024, "image/jpeg")},
            headers=headers,
            timeout=30,
        )
        assert answer.headers["Content-Type"] == "application/problem+json"
        if headers:
            assert answer.status_code == 413
            assert "1,048,576 bytes" in answer.json()["detail"]
        else:
            assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/api/images", "/api/payments", "/api/articles"])
def test_a_body_without_a_length_is_refused_at_the_same_limit(url: str, path: str) -> None:
    headers = {**SIGNED_IN, "Content-Type": "application/json"}
    if path == "/api/images":
        headers["Content-Type"] = "multipart/form-data; boundary=b"
    answer = requests.post(url + path, data=chunks(4 * UPLOAD_MAX), headers=headers, timeout=30)

    assert answer.status_code == 413
    assert "1,048,576 bytes" in answer.json()["detail"]


def test_a_body_without_a_length_is_taken_below_the_limit(url: str) -> None:
    text = b'{"order": "o-1", "amount": "19.90", "currency": "EUR"}'
    answer = requests.post(
        f"{url}/api/payments", data=iter([text[:20], text[20:]]), headers=SIGNED_IN, timeout=10
    )
    assert answer.status_code == 202


# The log


def test_each_line_is_json_where_a_collector_reads_them(settings: Settings, tmp_path: Path) -> None:
    web_bind = f"127.0.0.1:{free_port()}"
    env = environment(settings.model_copy(update={"web_bind": web_bind, "log_format": "json"}))
    with Running(*COMMAND, env=env, log=tmp_path / "web.log") as server:
        url = f"http://{web_bind}/api/cache/clear"
        server.until(lambda: answers("POST", url), "the web tier answers")
        assert server.end() == 0
    # What a start says of the settings is for whoever starts it.
    said = [line for line in server.said.splitlines() if not line.startswith("penstock: ")]
    lines = [json.loads(line) for line in said]
    assert {"gunicorn.error", "penstock_web.cache", "access"} <= {line["logger"] for line in lines}
    [request] = [line for line in lines if line["logger"] == "access"]
    assert (request["method"], request["path"]) == ("POST", "/api/cache/clear")
    assert (request["status"], request["client"]) == (200, "127.0.0.1")


# The beginning


def refusal(settings: Settings) -> str:
    """Return the one line of ours with which the web tier refuses to start."""
    answer = run(*COMMAND, env=environment(settings))
    assert answer.returncode == 2
    [line] = [line for line in answer.stderr.splitlines() if "Starting gunicorn" not in line]
    return line


def test_a_database_that_is_down_ends_it_with_its_setting(settings: Settings) -> None:
    url = "postgresql://penstock:secret@127.0.0.1:1/penstock"
    line = refusal(settings.model_copy(update={"database_url": url}))
    assert "cannot reach the database at postgresql://127.0.0.1:1/penstock" in line
    assert "check PENSTOCK_DATABASE_URL" in line
    assert "secret" not in line


def test_a_redis_that_is_down_ends_it_with_its_setting(settings: Settings) -> None:
    nobody = "redis://127.0.0.1:1/1"
    line = refusal(settings.model_copy(update={"results_url": nobody}))
    assert f"cannot reach the results Redis at {nobody}" in line
    assert "check PENSTOCK_RESULTS_URL" in line


def test_without_an_api_key_it_does_not_start(settings: Settings) -> None:
    assert "PENSTOCK_API_KEY is not set" in refusal(settings.model_copy(update={"api_key": ""}))


def test_a_port_in_use_is_named(settings: Settings, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        env = environment(settings.model_copy(update={"web_bind": f"127.0.0.1:{port}"}))
        said = f"Connection in use: ('127.0.0.1', {port})"
        with Running(*COMMAND, env=env, log=tmp_path / "web.log") as server:
            server.until(lambda: said in server.said, "the port is named")
