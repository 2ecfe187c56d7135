"""Processes that the harness starts, each in a group of its own, so that it can end the group."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import IO, Any

from chaos.waiting import StoppedError


class Reaper:
    """Starts processes, and kills every group that still runs when the harness is gone."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("reaper.py")],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own; raises StoppedError when all is ending."""
        with self._lock:
            if self._pipe.closed:
                raise StoppedError
            process = subprocess.Popen(command, start_new_session=True, **options)
            self._say(f"+{process.pid}")
            return process

    def forget(self, group: int) -> None:
        """Leave this group alone: it has ended, and its number may be given to another."""
        with self._lock:
            if not self._pipe.closed:
                self._say(f"-{group}")

    def end(self) -> None:
        """Kill every group that still runs, and return when that is done."""
        with self._lock:
            self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _say(self, line: str) -> None:
        self._pipe.write(f"{line}\n".encode())
        self._pipe.flush()


class Group:
    """A process and its children. `told` says whether the harness has told it to end."""

    def __init__(
        self, reaper: Reaper, command: list[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.told = False
        self.log = log
        self._reaper = reaper
        with log.open("ab") as file:
            self.process = reaper.start(
                command,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
            )

    @property
    def running(self) -> bool:
        """Whether its first process has not ended."""
        return self.process.poll() is None

    @property
    def deserted(self) -> bool:
        """Whether it has ended without having been told to."""
        return not self.running and not self.told

    def kill(self) -> None:
        """Kill the whole group, as the end of its container does."""
        self.told = True
        self._signal_all(signal.SIGKILL)
        self.process.wait()
        self._reaper.forget(self.process.pid)

    def freeze(self) -> None:
        """Stop the whole group in the middle of whatever it does."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def stop(self, limit: float) -> float:
        """Tell the first process to stop, as a container's engine does.

        Returns the seconds that it took, `limit` at most.
        """
        self.told = True
        began = monotonic()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(limit)
        return monotonic() - began

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"

    def _signal_all(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
