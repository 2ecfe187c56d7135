"""The stack without containers, as `./task up` runs it: every process for real."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
import requests
from processes import BIN, LIMIT, Running, environment, run, until

from penstock_dev.embedded import START_LIMIT, procfile, running

# Nine services start at once.
pytestmark = pytest.mark.timeout(300)

COMMAND = (sys.executable, "-m", "penstock_dev")


def settings(var: Path, **more: object) -> dict[str, str]:
    # Without docker on PATH, so that no containers are taken for what is to be ended.
    return {**environment(None, var=var, **more), "PATH": str(BIN)}


class Stack(Running):
    """A stack that keeps all in the folder `var`."""

    def __init__(self, var: Path) -> None:
        self.var = var
        super().__init__(*COMMAND, "up", "--embedded", env=settings(var), log=var / "up.log")

    def until_ready(self) -> None:
        # Longer than the stack's own limit, so that it is the stack that says what was not ready.
        self.until(lambda: "ends it" in self.said, "the stack is ready", START_LIMIT + 2 * LIMIT)

    def until_started(self) -> None:
        """Return when every process has been started, long before all are ready."""
        names = {name for name, _ in procfile()} | {"redis"}
        self.until(lambda: self.services.keys() == names, "every service has a process")

    @property
    def services(self) -> dict[str, psutil.Process]:
        """The processes that the stack started and watches, by the names of their logs."""
        found = {}
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                for file in map(Path, (file.path for file in child.open_files())):
                    if file.parent.name == "logs":
                        found[file.stem] = child
        return found

    @property
    def processes(self) -> list[psutil.Process]:
        """Every process of the stack that has not ended, whoever its parent is by now.

        Each has its folder in its environment; Redis overwrites that, but works in the folder.
        """
        return [process for process in psutil.process_iter() if self._has(process)]

    def _has(self, process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and (
                process.environ().get("PENSTOCK_VAR") == str(self.var)
                or Path(process.cwd()) == self.var / "embedded"
            )
        except psutil.Error:
            return False


def printed(stack: Stack, pattern: str) -> str:
    found = re.search(pattern, stack.said)
    assert found, stack.said
    return found[1]


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all stacks here, one after the other, so that the database is filled once."""
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="module")
def stack(var: Path) -> Iterator[Stack]:
    """A stack that is ready."""
    with Stack(var) as stack:
        stack.until_ready()
        yield stack
    until(lambda: not stack.processes, "every process has ended")


def down(var: Path) -> subprocess.CompletedProcess[str]:
    return run(*COMMAND, "down", env=settings(var))


def test_up_says_where_everything_is_and_how_to_get_in(stack: Stack) -> None:
    url, key = printed(stack, r"API +(\S+)"), printed(stack, r"Bearer (\S+)\)")
    assert requests.get(url, timeout=10).status_code == 401
    articles = requests.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert articles.json()["total"] == 10_000

    flower = printed(stack, r"Flower +(\S+)")
    user, _, password = printed(stack, r"sign in as (\S+)\)").partition(":")
    assert requests.get(flower, timeout=10).status_code == 401
    assert requests.get(flower, auth=(user, password), timeout=30).status_code == 200

    assert requests.get(printed(stack, r"ledger +(\S+)"), timeout=10).json() == []
    logs = {path.stem for path in Path(printed(stack, r"logs +(\S+)")).iterdir()}
    assert logs == stack.services.keys() == {name for name, _ in procfile()} | {"redis"}


def test_a_second_up_names_the_first_and_leaves_it_alone(stack: Stack, var: Path) -> None:
    services = stack.services
    second = run(*COMMAND, "up", "--embedded", env=settings(var))
    assert second.returncode == 2
    [line] = second.stderr.splitlines()
    assert "runs already at http://127.0.0.1:" in line
    assert f"(process {stack.process.pid})" in line
    assert "./task down" in line
    assert stack.services == services
    assert stack.process.poll() is None


def test_when_a_service_dies_the_stack_ends_and_says_which(stack: Stack) -> None:
    stack.services["payment"].kill()
    assert stack.process.wait(LIMIT) == 2
    assert "payment ended with exit code -9; its last word in " in stack.said
    assert stack.processes == []


def test_when_its_parent_is_killed_every_process_ends(var: Path) -> None:
    with Stack(var) as stack:
        stack.until_ready()
        processes = stack.processes
        stack.process.kill()
        stack.process.wait()
        until(lambda: not running(var / "embedded"), "the folder is free", limit=15)
        # Free for another stack, that is, and not a moment before the last process has ended.
        assert stack.processes == []
    # The services, Gunicorn's and Celery's own processes, and the reaper.
    assert len(processes) > len(procfile()) + 2


def test_down_ends_a_stack_that_is_still_starting(var: Path) -> None:
    with Stack(var) as stack:
        stack.until_started()
        ended = down(var)
        assert (ended.returncode, ended.stdout) == (0, "the embedded stack has ended\n")
        assert stack.process.wait(LIMIT) == 0
        assert stack.processes == []


def test_an_interrupt_ends_a_stack_in_good_order(var: Path) -> None:
    with Stack(var) as stack:
        stack.until_started()
        assert stack.end(signal.SIGINT) == 0
        assert stack.said.endswith("ended\n")
        assert stack.processes == []


def test_where_nothing_runs_down_says_so(var: Path) -> None:
    ended = down(var)
    assert (ended.returncode, ended.stdout) == (0, "nothing was running\n")


def test_a_port_in_use_ends_up_with_the_port_and_its_setting(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        taken = settings(tmp_path, web_bind=f"127.0.0.1:{port}")
        ended = run(*COMMAND, "up", "--embedded", env=taken)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert f"port {port} is in use" in line
    assert "PENSTOCK_WEB_BIND" in line
