"""Whom each container can reach, tried from inside of it."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from compose.conftest import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

PORTS = {
    "web": 8000,
    "broker": 6379,
    "results": 6379,
    "cache": 6379,
    "postgres": 5432,
    "mail": 1025,
    "provider": 8090,
}
JOBS = {"broker", "results"}
# From each container, what it needs. Whatever is not named must not answer.
REACHES = {
    "web": {*JOBS, "cache", "postgres", "web"},
    "email": {*JOBS, "mail", "provider", "web"},
    "image": {*JOBS, "web"},
    "report": {*JOBS, "postgres", "web"},
    "payment": {*JOBS, "mail", "provider", "web"},
    "scheduler": {*JOBS, "web"},
}
# What leads out of the machine: web is published, mail and payments are handed to others.
OUTSIDE = {"web", "email", "payment"}

PROBE = """
import json, socket, sys
answers = {}
for name, (host, port) in json.loads(sys.argv[1]).items():
    try:
        socket.create_connection((host, port), timeout=1.5).close()
        answers[name] = True
    except OSError:
        answers[name] = False
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def this_machine() -> Iterator[tuple[str, int]]:
    """An address that is outside of every container network."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as route:
        # Nothing is sent: connecting chooses the address that would be sent from.
        route.connect(("192.0.2.1", 9))
        host = route.getsockname()[0]
    with closing(socket.create_server((host, 0))) as listener:
        yield host, listener.getsockname()[1]


@pytest.mark.parametrize("name", REACHES)
def test_a_container_reaches_what_it_needs_and_nothing_else(
    stack: Stack, name: str, this_machine: tuple[str, int]
) -> None:
    targets = {other: (other, port) for other, port in PORTS.items()}
    targets["outside"] = this_machine
    said = stack.run("exec", "-T", name, "python", "-c", PROBE, json.dumps(targets))
    answers = json.loads(said)
    wanted = REACHES[name] | ({"outside"} if name in OUTSIDE else set())
    assert {other for other, answered in answers.items() if answered} == wanted


@pytest.mark.parametrize("name", ["broker", "results", "cache", "postgres"])
def test_a_server_with_data_reaches_nothing_outside(
    stack: Stack, name: str, this_machine: tuple[str, int]
) -> None:
    host, port = this_machine
    connect = f"exec 3<>/dev/tcp/{host}/{port}"
    refused = stack.compose("exec", "-T", name, "timeout", "3", "bash", "-c", connect)
    assert refused.returncode != 0
    assert "unreachable" in refused.stderr
