"""The project's commands, run as an operator runs them, and ended whatever becomes of the test."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self, TypeVar

from pydantic import SecretStr

from penstock.settings import PREFIX, Settings

BIN = Path(sys.executable).parent
# Seconds after which something that has not happened will not happen; busy machines are slow.
LIMIT = 60.0

Answer = TypeVar("Answer")


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(number: int) -> list[int]:
    """Return several such ports, all different."""
    ports: set[int] = set()
    while len(ports) < number:
        ports.add(free_port())
    return sorted(ports)


def until(answer: Callable[[], Answer], what: str, limit: float = LIMIT) -> Answer:
    """Ask until the answer is true and return it; fail with `what` when it never is."""
    deadline = monotonic() + limit
    while not (given := answer()):
        assert monotonic() < deadline, f"after {limit:.0f} s still not: {what}"
        sleep(0.02)
    return given


def environment(settings: Settings | None = None, **more: object) -> dict[str, str]:
    """Return this process's environment with no settings in it but the ones that are given.

    `more` are settings by their names in the class, such as `broker_url`.
    """
    given = settings.model_dump(include=settings.model_fields_set) if settings else {}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {
        **clean,
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        **{f"{PREFIX}{name.upper()}": _text(value) for name, value in {**given, **more}.items()},
    }


def _text(value: Any) -> str:
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


def run(*command: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself; a failed one raises nothing."""
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=LIMIT, check=False
    )


class Running:
    """A command that runs in a session of its own until the end of a `with`."""

    def __init__(self, *command: str, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # What is kept by a relative path is not to be kept in the repository.
                cwd=log.parent,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Once its exit code was asked for, its number may be another's.
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def said(self) -> str:
        """What the command has written so far."""
        return self.log.read_text(errors="replace")

    def until(self, answer: Callable[[], Answer], what: str, limit: float = LIMIT) -> Answer:
        """As the function, but fail at once, with what the command wrote, when the command ends."""

        def alive() -> Answer:
            given = answer()
            assert given or self.process.poll() is None, f"ended before {what}: {self.said}"
            return given

        try:
            return until(alive, what, limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said}") from None

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the command's own process a signal and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)
