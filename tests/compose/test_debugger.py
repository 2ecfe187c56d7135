"""The overlay for debugging: a breakpoint stops web and a worker, and they go on from it."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from compose.conftest import ROOT, Stack, started
from compose.debugger import Debugger

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

FILES = ("deploy/compose.yaml", "deploy/compose.dev.yaml", "deploy/compose.debug.yaml")
PAYMENT = {"order": "o-1", "amount": "1.00", "currency": "EUR"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Web and a worker as they are debugged."""
    name, folder = f"penstock-debug-{os.getpid()}", tmp_path_factory.mktemp("debugged")
    # Images with a debugger in them are not to be taken for others.
    with started(name, folder, FILES, "web", "payment", tag="test-debug") as stack:
        yield stack


def debugger(stack: Stack, service: str) -> Debugger:
    return Debugger(int(stack.url(service, 5678).rpartition(":")[2]))


def breakpoint_at(service: str, module: str, text: str) -> tuple[str, str, int]:
    """Return where the first line with a text is: here, in the containers, and its number."""
    local = ROOT / "services" / service / f"penstock_{service}" / f"{module}.py"
    lines = local.read_text().splitlines()
    number = next(at for at, line in enumerate(lines, 1) if text in line)
    return str(local), f"/app/packages/penstock_{service}/{module}.py", number


def goes_on(debugger: Debugger) -> dict[str, Any]:
    """Wait until a breakpoint is reached, go on from it, and return where it was."""
    thread = debugger.event("stopped")["threadId"]
    frame: dict[str, Any] = debugger.ask("stackTrace", threadId=thread)["stackFrames"][0]
    debugger.ask("continue", threadId=thread)
    return frame


def test_a_breakpoint_in_a_view_stops_a_request(stack: Stack) -> None:
    place = breakpoint_at("web", "health", 'return {"status": "ok"}')
    with debugger(stack, "web") as gunicorn, ThreadPoolExecutor(1) as other:
        gunicorn.attach(*place)
        # Gunicorn serves in a process that it forks.
        forked = gunicorn.event("debugpyAttach")["subProcessId"]
        with debugger(stack, "web") as server:
            server.attach(*place, subProcessId=forked)
            answer = other.submit(stack.api, "GET", "/livez")
            frame = goes_on(server)
            assert (frame["name"], frame["line"]) == ("live", place[2])
            assert answer.result().json() == {"status": "ok"}


def test_a_breakpoint_in_a_handler_stops_a_job(stack: Stack) -> None:
    place = breakpoint_at("payment", "tasks", "return PaymentProcessed(")
    with debugger(stack, "payment") as worker:
        worker.attach(*place)
        job_id = stack.api("POST", "/api/payments", PAYMENT).json()["task_id"]
        frame = goes_on(worker)
        assert (frame["name"], frame["line"]) == ("process", place[2])
        assert stack.ended(job_id)["state"] == "SUCCESS"
