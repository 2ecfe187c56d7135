"""The development overlay: a changed source runs soon after it is saved."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
import requests
from processes import until

from compose.conftest import ROOT, Stack, started

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

FILES = ("deploy/compose.yaml", "deploy/compose.dev.yaml")
SERVICES = ("web", "payment", "provider")
SOURCES = ("compose.yaml", "deploy", "requirements", "services", ".dockerignore")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Web and a worker of a copy of the sources, with `docker compose watch` at work."""
    root = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        copy: Callable[..., object] = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    folder = tmp_path_factory.mktemp("watched")
    name = f"penstock-watch-{os.getpid()}"
    # Images whose code can be replaced are not to be taken for others.
    with started(name, folder, FILES, *SERVICES, root=root, tag="test-dev") as stack:
        command = ["docker", "compose", "-p", name, "--env-file", str(stack.env_file)]
        log = folder / "watch.log"
        with log.open("wb") as stream:
            watch = subprocess.Popen(
                [*command, "watch", "--no-up", "web", "payment"],
                cwd=root,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: "atch" in log.read_text(), "the sources are watched")
            yield stack
        finally:
            watch.send_signal(signal.SIGINT)
            watch.wait(30)


def changed(path: Path, old: str, new: str) -> float:
    """Save a file with a text replaced; return when."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return monotonic()


def test_a_changed_line_of_web_is_served(
    watched: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{watched.url('web', 8000)}/livez"

    def answer() -> str:
        try:
            return requests.get(url, timeout=5).text
        except requests.RequestException:
            return ""

    assert "reloaded" not in answer()
    source = watched.root / "services" / "web" / "penstock_web" / "health.py"
    saved = changed(source, '"status": "ok"', '"status": "reloaded"')
    until(lambda: "reloaded" in answer(), "the new line is served")
    with capsys.disabled():
        print(f"\nweb: a changed line is served after {monotonic() - saved:.1f} s")


def test_a_changed_line_of_a_worker_runs(
    watched: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        return watched.run("logs", "--no-log-prefix", "payment")

    source = watched.root / "services" / "payment" / "penstock_payment" / "tasks.py"
    saved = changed(
        source, "from celery import", 'print("reloaded", flush=True)\nfrom celery import'
    )
    until(lambda: "reloaded" in said(), "the new line runs")
    with capsys.disabled():
        print(f"\npayment: a changed line runs after {monotonic() - saved:.1f} s")
