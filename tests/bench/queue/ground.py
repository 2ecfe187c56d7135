"""Where a peer is measured: a broker and a ledger of its own, and the workers that run on them."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self, cast

from bench.processes import START_LIMIT, BenchError, Worker, free_port
from bench.queue.client import Client
from bench.queue.peers.roster import Peer
from redis import Redis, RedisError

from penstock_dev.redis_server import find_redis_server

TESTS = Path(__file__).parents[2]


class Ground:
    """A peer with its servers. Everything it starts ends with it."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.peer = peer
        self.folder = folder / peer.name.replace(" ", "-")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.broker = self._server(stack, "broker")
            self.ledger = self._server(stack, "ledger")
            self.environment = {
                **os.environ,
                "BENCH_BROKER": _url(self.broker),
                "BENCH_LEDGER": _url(self.ledger),
                "PENSTOCK_HEARTBEAT": str(self.folder / "heartbeat"),
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])
                ),
                "RQ_REDIS_URL": _url(self.broker),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            }
            self.client = stack.enter_context(Client(self.peer.module, self.environment))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def clear(self) -> None:
        """Empty the broker and the ledger."""
        self.broker.flushall()
        self.ledger.flushall()

    def worker(self) -> Worker:
        """Start a worker."""
        return Worker(self.peer.words, self.environment, self.folder / "worker.log")

    def done(self) -> int:
        """Return how many effects the ledger has."""
        return self.ledger.llen("done")

    def effects(self) -> list[str]:
        """Return the tokens of all effects, in order."""
        return [token.decode() for token in cast("list[bytes]", self.ledger.lrange("done", 0, -1))]

    def begun(self, token: str, timeout: float) -> int:
        """Wait for the job `token` to begin; return the session of the worker that it runs in."""
        for begun, session in self._beginnings(timeout):
            if begun == token:
                return session
        raise TimeoutError

    def ready(self, *workers: Worker, probe: bool = True) -> None:
        """Return when each of the workers runs jobs: those that wait, or else probes."""
        waiting, deadline = {worker.session for worker in workers}, monotonic() + START_LIMIT
        while waiting:
            for worker in workers:
                worker.check()
            if monotonic() > deadline:
                raise BenchError(f"{self.peer.name}: a worker took no job; see {self.folder}")
            if probe:
                self.client.send("begin", ["probe"])
            waiting -= {session for _, session in self._beginnings(0.2)}

    def _beginnings(self, timeout: float) -> Iterator[tuple[str, int]]:
        deadline = monotonic() + timeout
        while (left := deadline - monotonic()) > 0:
            heard = cast("Any", self.ledger.blpop(["begun"], timeout=max(left, 0.01)))
            if heard is not None:
                token, session = heard[1].decode().split()
                yield token, int(session)

    def _server(self, stack: ExitStack, name: str) -> Redis:
        """Start a Redis server that keeps what it is told as Penstock's broker does."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        port = free_port()
        options = {
            "bind": "127.0.0.1",
            "port": port,
            "dir": folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            # A rewrite would fall into some measurements and not into others.
            "auto-aof-rewrite-percentage": 0,
            "maxmemory-policy": "noeviction",
        }
        words = [str(word) for pair in options.items() for word in (f"--{pair[0]}", pair[1])]
        command = [find_redis_server(), *words]
        stack.enter_context(Worker(command, dict(os.environ), folder / "log"))
        # Some answers are waited for longer than redis-py would.
        client = Redis(port=port, socket_timeout=None)
        deadline = monotonic() + START_LIMIT
        while True:
            try:
                client.ping()
                return client
            except RedisError:
                if monotonic() > deadline:
                    raise BenchError(f"Redis does not answer; see {folder / 'log'}") from None
                sleep(0.02)


def _url(client: Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"
