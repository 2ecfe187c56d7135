"""What is measured, as processes that end with the measurement."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Self

import psutil

# Seconds that a process gets to start.
START_LIMIT = 60.0


class BenchError(Exception):
    """A measurement was not possible; the text says why."""


@dataclass(frozen=True)
class Use:
    """What a worker uses, all of its processes together; bytes, and seconds of CPU."""

    rss: int
    pss: int
    cpu: float


class Worker:
    """A worker: every process of the session that its command leads."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log.parent,
            )
        self.session = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill every process of the worker, as when its container is lost."""
        while groups := {group for _, group in self._members()}:
            for group in groups:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            self.process.poll()
            sleep(0.005)
        self.process.wait()

    def use(self) -> Use:
        """Return what the worker uses at this moment."""
        rss, pss, cpu = 0, 0, 0.0
        for process, _ in self._members():
            with suppress(psutil.Error):
                memory, times = process.memory_full_info(), process.cpu_times()
                rss, pss = rss + memory.rss, pss + memory.pss
                cpu += times.user + times.system + times.children_user + times.children_system
        return Use(rss, pss, cpu)

    def check(self) -> None:
        """Raise BenchError when the worker has ended by itself."""
        if self.process.poll() is not None:
            said = self.log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            raise BenchError(f"a worker ended by itself; its last word in {self.log}: {said[-1]}")

    def _members(self) -> Iterator[tuple[psutil.Process, int]]:
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == self.session and process.status() != "zombie":
                    yield process, os.getpgid(process.pid)


def end_in_order() -> None:
    """From now on end by SIGTERM as by Ctrl-C, so that what was started ends as well."""
    signal.signal(signal.SIGTERM, _as_interrupt)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
