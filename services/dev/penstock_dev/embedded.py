"""The stack without containers: the commands of deploy/Procfile, and a Redis of its own.

Everything it keeps is below one folder, and everything it starts ends with it; see `reaper`.
"""

import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_urlsafe
from time import monotonic, sleep
from typing import IO

import requests

from penstock.database import Database
from penstock.database.migrate import upgrade
from penstock.database.seed import seed
from penstock_dev.redis_server import find_redis_server

ROOT = Path(__file__).parents[3]
PROCFILE = ROOT / "deploy" / "Procfile"
# Seconds that the processes get to become ready.
START_LIMIT = 60.0
# What each process listens on, and the port it takes when that is free.
BINDS = {
    "PENSTOCK_WEB_BIND": 8000,
    "PENSTOCK_FLOWER_BIND": 5555,
    "PENSTOCK_MAIL_BIND": 1025,
    "PENSTOCK_PROVIDER_BIND": 8090,
    "PENSTOCK_REDIS_BIND": 6379,
}


class EmbeddedError(Exception):
    """The stack cannot be started, or did not stay up; the text says why in one line."""


@dataclass(frozen=True)
class Running:
    """Where a running stack is and how to talk to it."""

    pid: int
    web: str
    flower: str
    provider: str
    key: str
    flower_sign_in: str
    mail: str
    folder: str


def running(folder: Path) -> Running | None:
    """Return the stack that runs below `folder`, if one does."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        written = folder / "running.json"
        return Running(**json.loads(written.read_text())) if written.exists() else None
    return None


def stop(folder: Path) -> bool:
    """End the stack below `folder` and return when it has ended; False when none runs."""
    found = running(folder)
    if found is None:
        return False
    # It may have been killed, and its processes be about to end.
    with suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGTERM)
    while running(folder):
        sleep(0.1)
    return True


@contextmanager
def embedded(folder: Path, *, scale: float, say: Callable[[str], None]) -> Iterator["Stack"]:
    """Run the stack below `folder`; yields it when it is ready, and ends it afterwards.

    An empty database is seeded at `scale`. `say` is told what is being done. Raises EmbeddedError
    when another stack runs there, a port is taken, or a process ends by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = running(folder)
            where = f" at {other.web} (process {other.pid})" if other else ""
            raise EmbeddedError(f"the stack runs already{where}: ./task down ends it") from None
        stack = Stack(folder.absolute())
        (folder / "running.json").write_text(json.dumps(asdict(stack.running)))
        try:
            say("preparing the database")
            stack.prepare_database(scale)
            say("starting Redis, the web tier, four workers, the scheduler and Flower")
            stack.start(lock)
            yield stack
        finally:
            stack.end()
            (folder / "running.json").unlink()


class Stack:
    """The processes of an embedded run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = _environment(folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reaper: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> Running:
        """Where everything is."""
        env = self.environment
        return Running(
            pid=os.getpid(),
            web=f"http://{env['PENSTOCK_WEB_BIND']}",
            flower=f"http://{env['PENSTOCK_FLOWER_BIND']}",
            provider=f"http://{env['PENSTOCK_PROVIDER_BIND']}",
            key=env["PENSTOCK_API_KEY"],
            flower_sign_in=env["PENSTOCK_FLOWER_SIGN_IN"],
            mail=env["PENSTOCK_MAIL_FOLDER"],
            folder=str(self.folder),
        )

    def prepare_database(self, scale: float) -> None:
        """Bring the schema up to date, and fill an empty database."""
        database = Database(self.environment["PENSTOCK_DATABASE_URL"])
        upgrade(database)
        seed(database, scale)
        database.engine.dispose()

    def start(self, lock: IO[str]) -> None:
        """Start every process and return when all are ready.

        The reaper holds `lock` as well, so that it is free when the last process has ended.
        """
        for name in ("logs", "redis", "heartbeats"):
            (self.folder / name).mkdir(exist_ok=True)
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "penstock_dev.reaper"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
        # Interrupts reach the main thread alone: none falls between the start of a process and its
        # being named to the reaper, which would leave it running for good.
        with ThreadPoolExecutor(1) as spawner:
            spawner.submit(self._spawn_all).result()
        self._until_ready()

    def end(self) -> None:
        """End every process and return when none is left."""
        if self._reaper is None:
            return
        _pipe(self._reaper).close()
        # To the reaper a process is there until its parent has asked how it ended.
        while self._reaper.poll() is None:
            for process in self.processes.values():
                process.poll()
            sleep(0.05)

    def watch(self) -> None:
        """Return never; raises EmbeddedError when a process ends."""
        while True:
            self._check()
            sleep(0.5)

    def _redis_command(self) -> list[str]:
        host, _, port = self.environment["PENSTOCK_REDIS_BIND"].rpartition(":")
        # One server plays all three roles here, so it gets the policy of the strictest.
        options = {
            "bind": host,
            "port": port,
            "dir": str(self.folder / "redis"),
            "save": "",
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [find_redis_server(), *words]

    def _spawn_all(self) -> None:
        self._spawn("redis", self._redis_command())
        for name, command in procfile():
            self._spawn(name, command)

    def _spawn(self, name: str, command: list[str]) -> None:
        heartbeat = self.folder / "heartbeats" / name
        heartbeat.unlink(missing_ok=True)
        with (self.folder / "logs" / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**self.environment, "PENSTOCK_HEARTBEAT": str(heartbeat)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
            )
        self.processes[name] = process
        assert self._reaper is not None
        _pipe(self._reaper).write(f"{process.pid}\n".encode())
        _pipe(self._reaper).flush()

    def _check(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                log = self.folder / "logs" / f"{name}.log"
                said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise EmbeddedError(
                    f"{name} ended with exit code {process.returncode}; its last word in {log}: "
                    f"{said[-1]}"
                )

    def _until_ready(self) -> None:
        waiting = {name for name in self.processes if name != "redis"}
        deadline = monotonic() + START_LIMIT
        while waiting:
            self._check()
            waiting = {name for name in waiting if not self._is_ready(name)}
            if waiting and monotonic() > deadline:
                raise EmbeddedError(
                    f"not ready after {START_LIMIT:.0f} s: {', '.join(sorted(waiting))};"
                    f" see {self.folder / 'logs'}"
                )
            sleep(0.1)

    def _is_ready(self, name: str) -> bool:
        env = self.environment
        if name == "mail":
            host, _, port = env["PENSTOCK_MAIL_BIND"].rpartition(":")
            with closing(socket.socket()) as probe:
                return probe.connect_ex((host, int(port))) == 0
        pages = {
            "web": f"http://{env['PENSTOCK_WEB_BIND']}/readyz",
            "flower": f"http://{env['PENSTOCK_FLOWER_BIND']}/healthcheck",
            "provider": f"http://{env['PENSTOCK_PROVIDER_BIND']}/livez",
        }
        if name in pages:
            try:
                return requests.get(pages[name], timeout=2).ok
            except requests.RequestException:
                return False
        return (self.folder / "heartbeats" / name).exists()


def procfile() -> list[tuple[str, list[str]]]:
    """Return the names and commands of deploy/Procfile, in its order."""
    lines = (line.strip() for line in PROCFILE.read_text().splitlines())
    pairs = (line.split(":", 1) for line in lines if line and not line.startswith("#"))
    return [(name, shlex.split(command)) for name, command in pairs]


def _environment(folder: Path) -> dict[str, str]:
    """Return the settings of an embedded run; those of the caller's environment come first."""
    ports = {name: _address(name, preferred) for name, preferred in BINDS.items()}
    redis = f"redis://{ports['PENSTOCK_REDIS_BIND']}"
    mail_host, _, mail_port = ports["PENSTOCK_MAIL_BIND"].rpartition(":")
    return {
        "PENSTOCK_API_KEY": token_urlsafe(24),
        "PENSTOCK_BROKER_URL": f"{redis}/0",
        "PENSTOCK_RESULTS_URL": f"{redis}/1",
        "PENSTOCK_CACHE_URL": f"{redis}/2",
        "PENSTOCK_DATABASE_URL": f"sqlite:///{folder}/penstock.db",
        "PENSTOCK_FILES": str(folder / "files"),
        "PENSTOCK_STATE": str(folder / "state"),
        "PENSTOCK_CACHE_FOLDER": str(folder / "cache"),
        "PENSTOCK_SMTP_HOST": mail_host,
        "PENSTOCK_SMTP_PORT": mail_port,
        "PENSTOCK_MAIL_FOLDER": str(folder / "mail"),
        "PENSTOCK_PAYMENT_URL": f"http://{ports['PENSTOCK_PROVIDER_BIND']}",
        "PENSTOCK_PROVIDER_LEDGER": str(folder / "ledger.jsonl"),
        "PENSTOCK_FLOWER_SIGN_IN": f"admin:{token_urlsafe(12)}",
        # Less than the reaper gives a process before it kills it.
        "PENSTOCK_GRACE": "8",
        # The processes start together, so each waits for what it needs.
        "PENSTOCK_WAIT": "30",
        **os.environ,
        **ports,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }


def _address(setting: str, preferred: int) -> str:
    """Return host:port as the caller set it, or on a free port of the loopback interface."""
    if given := os.environ.get(setting):
        host, _, port = given.rpartition(":")
        if not _is_free(host, int(port)):
            raise EmbeddedError(f"port {port} is in use: set {setting} to another address")
        return given
    if _is_free("127.0.0.1", preferred):
        return f"127.0.0.1:{preferred}"
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _is_free(host: str, port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin
