"""The ledger: a process that writes down what really happened, and never asks the jobs twice.

It stands for the world outside: a provider that takes money as often as it is told to. One line of
JSON comes in on a connection, is appended to a file with the time, and is then answered.
"""

import json
import os
import socket
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Lock
from time import monotonic, time
from typing import IO


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `at` is on the machine's monotonic clock, `clock` since 1970."""

    kind: str
    job: str
    worker: str
    fence: int
    at: float
    clock: float


class Ledger:
    """What the ledger process has written so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._entries: list[Entry] = []
        self._lock = Lock()

    def entries(self, kind: str) -> list[Entry]:
        """Return what happened of this kind, in order."""
        with self._lock, self._path.open("ab+") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._entries.append(Entry(**json.loads(line)))
            return [entry for entry in self._entries if entry.kind == kind]

    def of(self, kind: str, job: str) -> list[Entry]:
        """Return what happened of this kind for one job."""
        return [entry for entry in self.entries(kind) if entry.job == job]

    def count(self, kind: str) -> Counter[str]:
        """Return how often it happened for each job."""
        return Counter(entry.job for entry in self.entries(kind))


def note(kind: str, job: str, worker: str, fence: int) -> None:
    """Tell the ledger, from a job; returns when it is written down."""
    port = int(os.environ["CHAOS_LEDGER"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        told = {"kind": kind, "job": job, "worker": worker, "fence": fence}
        connection.sendall(json.dumps(told).encode() + b"\n")
        if connection.recv(1) != b".":
            raise ConnectionError("the ledger did not write it down")


class _Handler(StreamRequestHandler):
    lock = Lock()
    file: IO[bytes]

    def handle(self) -> None:
        told = json.loads(self.rfile.readline())
        with self.lock:
            line = json.dumps({**told, "at": monotonic(), "clock": time()})
            self.file.write(line.encode() + b"\n")
        self.wfile.write(b".")


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def main(path: Path) -> None:
    """Serve on a free port, which is written beside the file when it is ready."""
    with path.open("ab", buffering=0) as file, _Server(("127.0.0.1", 0), _Handler) as server:
        _Handler.file = file
        fresh = path.with_suffix(".new")
        fresh.write_text(str(server.server_address[1]))
        fresh.replace(path.with_suffix(".port"))
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
