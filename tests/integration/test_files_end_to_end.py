"""Jobs with files, from the upload to the download, with each place: every process for real."""

import base64
import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import requests
from PIL import Image
from processes import Running, environment, free_port, until
from servers import MailServer, RedisServer

from integration.conftest import KEY
from penstock.settings import Settings

WEB = ("gunicorn", "--config", "python:penstock_web.gunicorn_conf", "penstock_web.asgi:app")
WORKER = ["celery", "--app", "penstock.app", "worker", "--queues", "image,report,email"]
SIGNED_IN = {"Authorization": f"Bearer {KEY}"}
# Bytes: what a picture of noise takes that no format makes smaller.
SIDE = 4200
LARGE = SIDE * SIDE * 3

pytestmark = pytest.mark.timeout(300)


class Stack(NamedTuple):
    """A web tier and a worker of all queues with files, and the name of the place for these."""

    place: str
    url: str
    web: Running
    worker: Running
    mail: MailServer

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Post a job and return its record when it has ended."""
        answer = requests.post(self.url + path, headers=SIGNED_IN, timeout=60, **body)
        assert answer.status_code == 202, answer.text
        status = self.url + answer.json()["status_url"]

        def ended() -> dict[str, Any] | None:
            read = requests.get(status, headers=SIGNED_IN, timeout=10)
            return dict(read.json()) if read.status_code == 200 else None

        record = self.worker.until(ended, "the job has ended")
        assert record
        assert record["state"] == "SUCCESS", record
        return record

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers={**SIGNED_IN, **headers}, timeout=60)


@contextmanager
def running(place: str, settings: Settings, folder: Path, **more: Any) -> Iterator[Stack]:
    """Run a stack with these settings; `more` are those of the place."""
    scratch = folder / "scratch"
    scratch.mkdir()
    bind = f"127.0.0.1:{free_port()}"
    with MailServer() as mail:
        given = {**more, "web_bind": bind, "smtp_port": mail.port, "upload_max": 2 * LARGE}
        env = environment(settings.model_copy(update=given))
        env |= {"WEB_CONCURRENCY": "1", "TMPDIR": str(scratch)}
        with (
            Running(*WEB, env=env, log=folder / "web.log") as web,
            Running(*WORKER, env=env, log=folder / "worker.log") as worker,
        ):
            web.until(lambda: _answers(bind), "the web tier answers")
            worker.until(lambda: " ready" in worker.said, "the worker is ready")
            yield Stack(place, f"http://{bind}", web, worker, mail)
            # Nothing stays in the folder for temporary files.
            assert [path for path in scratch.rglob("*") if path.is_file()] == []
            assert (web.end(), worker.end()) == (0, 0)


@pytest.fixture(scope="module", params=["folder", "s3", "redis"])
def stack(
    request: pytest.FixtureRequest,
    shared_settings: Settings,
    redis_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """A stack on each place."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "s3":
        more = request.getfixturevalue("s3_server").settings("end-to-end")
    elif request.param == "redis":
        more = {"files": f"redis://127.0.0.1:{redis_port}/3"}
    else:
        more = {"files": str(folder / "files")}
    with running(request.param, shared_settings, folder, **more) as stack:
        yield stack


@pytest.fixture
def filling(
    settings: Settings, redis_url: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Stack]:
    """A stack whose files are in a Redis server of the test's own."""
    own = {
        # The worker of `stack` may still be there and takes jobs from where the settings say.
        "broker_url": f"{redis_url}/3",
        "files": f"{redis_server.url}/0",
        "retry_scale": 0.1,
    }
    with running("redis", settings, tmp_path, **own) as stack:
        yield stack


def _answers(bind: str) -> bool:
    try:
        return requests.get(f"http://{bind}/livez", timeout=5).ok
    except requests.ConnectionError:
        return False


def peak(command: Running) -> dict[int, int]:
    """Return the most memory that each process of a command has had so far, in MB."""
    children = psutil.Process(command.process.pid).children(recursive=True)
    return {child.pid: _peak(child.pid) for child in children}


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1000 for line in lines if line.startswith("VmHWM"))


def test_reports_pictures_and_attachments_come_out_as_they_should(stack: Stack) -> None:
    report = stack.post("/api/reports", json={"dataset": "orders", "formats": ["csv", "xlsx"]})
    as_csv, as_xlsx = report["result"]["files"]
    content = stack.get(as_csv["url"]).content
    assert len(content) == as_csv["size"]
    assert len(list(csv.reader(io.StringIO(content.decode())))) == report["result"]["rows"] + 1
    assert stack.get(as_xlsx["url"]).content.startswith(b"PK")

    picture = io.BytesIO()
    Image.effect_noise((300, 200), 50).save(picture, "PNG")
    made = stack.post("/api/images", files={"file": ("dam.png", picture.getvalue(), "image/png")})
    sizes = []
    for file in made["result"]["files"]:
        with Image.open(io.BytesIO(stack.get(file["url"]).content)) as image:
            sizes.append(image.size)
    assert sizes[-1] == (128, 128)

    attached = os.urandom(1_500_000)
    attachment = {
        "name": "Übersicht.bin",
        "content_type": "application/x-thing",
        "content": base64.b64encode(attached).decode(),
    }
    mail = {"to": ["a@example.com"], "subject": "s", "text": "t", "attachments": [attachment]}
    stack.post("/api/send-email", json=mail)
    [message] = stack.mail.messages
    [part] = message.iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("Übersicht.bin", attached)


def test_a_download_says_what_it_is_and_is_given_in_parts(stack: Stack) -> None:
    report = stack.post("/api/reports", json={"dataset": "orders", "formats": ["csv"]})
    [file] = report["result"]["files"]
    whole = stack.get(file["url"])
    content = whole.content
    assert whole.headers["Content-Length"] == str(len(content))
    assert whole.headers["Content-Disposition"] == "attachment; filename=orders.csv"
    assert whole.headers["Content-Type"].startswith("text/csv")
    assert whole.headers["Accept-Ranges"] == "bytes"

    part = stack.get(file["url"], Range="bytes=100-299")
    assert (part.status_code, part.content) == (206, content[100:300])
    assert part.headers["Content-Range"] == f"bytes 100-299/{len(content)}"
    rest = stack.get(file["url"], Range=f"bytes={len(content) - 7}-")
    assert (rest.status_code, rest.content) == (206, content[-7:])
    assert stack.get(file["url"], Range=f"bytes={len(content)}-").status_code == 416
    other = stack.get(file["url"], Range="bytes=0-9", **{"If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, content)
    known = stack.get(file["url"], **{"If-None-Match": whole.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = requests.head(stack.url + file["url"], headers=SIGNED_IN, timeout=10)
    assert (head.headers["Content-Length"], head.content) == (str(len(content)), b"")

    folder = file["url"].rpartition("/")[0]
    for name in ("other.csv", "..", ".tmp", "a%2Fb", "%00"):
        assert stack.get(f"{folder}/{name}").status_code == 404


def test_a_large_picture_goes_through_in_little_memory_of_the_web_tier(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    def upload(side: int) -> str:
        stream = io.BytesIO()
        noise = os.urandom(side * side * 3)
        Image.frombytes("RGB", (side, side), noise).save(stream, "PNG", compress_level=1)
        rendition = f'[{{"name": "all", "width": {side}, "height": {side}, "format": "png"}}]'
        record = stack.post(
            "/api/images",
            files={"file": ("noise.png", stream.getvalue(), "image/png")},
            data={"renditions": rendition},
        )
        url: str = record["result"]["files"][0]["url"]
        with Image.open(io.BytesIO(stack.get(url).content)) as image:
            assert sha256(image.tobytes()).digest() == sha256(noise).digest()
        return url

    upload(50)
    before = peak(stack.web)
    url = upload(SIDE)
    head = requests.head(stack.url + url, headers=SIGNED_IN, timeout=10)
    size = int(head.headers["Content-Length"])
    grown = max(now - before[pid] for pid, now in peak(stack.web).items() if pid in before)
    with capsys.disabled():
        worker = max(peak(stack.worker).values())
        print(
            f"\n{size / 1e6:.0f} MB up and down with {stack.place}: web +{grown} MB; the worker,"
            f" which has the picture in memory, {worker} MB"
        )
    assert size > 50_000_000
    assert grown < 30


def test_a_full_server_refuses_an_upload_and_keeps_nothing_of_it(
    filling: Stack, redis_server: RedisServer
) -> None:
    used = int(redis_server.client.info("memory")["used_memory"])
    redis_server.client.config_set("maxmemory", str(used + 1_000_000))
    stream = io.BytesIO()
    Image.effect_noise((2000, 2000), 90).save(stream, "PNG")
    for _ in range(2):
        answer = requests.post(
            f"{filling.url}/api/images",
            files={"file": ("a.png", stream.getvalue(), "image/png")},
            headers=SIGNED_IN,
            timeout=30,
        )
        assert answer.status_code == 503, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "no room" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) > 0
    assert redis_server.client.dbsize() == 0


def test_a_report_that_finds_the_server_full_is_tried_again(
    filling: Stack, redis_server: RedisServer
) -> None:
    redis_server.client.config_set("maxmemory", "1")
    report = {"dataset": "orders", "formats": ["csv"]}
    url = f"{filling.url}/api/reports"
    job = requests.post(url, json=report, headers=SIGNED_IN, timeout=30).json()

    def record() -> dict[str, Any]:
        return dict(filling.get(job["status_url"]).json())

    until(lambda: record()["state"] == "RETRY", "the job waits for another try")
    redis_server.client.config_set("maxmemory", "0")
    until(lambda: record()["state"] == "SUCCESS", "the job has succeeded")
    [file] = record()["result"]["files"]
    assert len(filling.get(file["url"]).content) == file["size"]


def test_files_are_answered_503_while_their_server_is_away(
    filling: Stack, redis_server: RedisServer
) -> None:
    record = filling.post("/api/reports", json={"dataset": "orders", "formats": ["csv"]})
    [file] = record["result"]["files"]
    redis_server.kill()
    answer = filling.get(file["url"])
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    redis_server.start()
    assert filling.get(file["url"]).status_code == 200
