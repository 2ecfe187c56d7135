"""The cache server away, slow, full, emptied or read-only: every read answers, and rightly."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from statistics import median
from threading import Thread
from time import perf_counter, sleep

import pytest
from processes import until
from redis.exceptions import OutOfMemoryError
from servers import RedisServer

from integration.test_cache_views import App
from penstock.cache.redis_store import BUDGET, RedisStore
from penstock.cache.tier import LEASE

# Seconds that a read takes without any cache; what is printed is above that.
COMPUTATION = 0.005


class Reader:
    """An app whose rows can change, as two processes see it."""

    def __init__(self, url: str) -> None:
        self.row = 0
        options = {"CACHE_TYPE": "TieredCache", "CACHE_REDIS_URL": url, "CACHE_BUDGET": BUDGET}
        self.apps = [App(**options), App(**options)]
        for app in self.apps:
            app.view("/row/<int:n>", self._answer, tags=["rows"])
        self._new = count(1)

    def _answer(self, n: int) -> str:
        sleep(COMPUTATION)
        return str(self.row)

    @property
    def stores(self) -> list[RedisStore]:
        """What the two ask."""
        stores = [app.cache.cache_of(app.flask).store for app in self.apps]
        return [store for store in stores if isinstance(store, RedisStore)]

    def change(self) -> None:
        """Change the row in the first process, as a request that writes does."""
        self.row += 1
        with self.apps[0].flask.app_context():
            self.apps[0].cache.drop_tags("rows")

    def read(self, app: App, path: str = "/row/0") -> str:
        """Return what a read answers; every one has to."""
        answer = app.get(path)
        assert answer.status_code == 200
        return answer.text

    def look(self, what: str) -> None:
        """Read and change for a while, and hold every answer against what it has to be."""
        for _ in range(3):
            self.change()
            assert self.read(self.apps[0]) == str(self.row), "the writer reads what it wrote"
            until(
                lambda: self.read(self.apps[1]) == str(self.row),
                "the other process knows",
                limit=LEASE + 1,
            )
        self.print_added(what)

    def print_added(self, what: str) -> None:
        """Print what a read of something that nobody keeps takes above its computation."""
        added = []
        for _ in range(40):
            began = perf_counter()
            self.read(self.apps[0], f"/row/{next(self._new)}")
            added.append((perf_counter() - began - COMPUTATION) * 1000)
        print(f"\n{what:12} adds {median(added):5.1f} ms, at most {max(added):5.1f} ms")


@pytest.fixture
def reader(redis_server: RedisServer) -> Reader:
    reader = Reader(f"redis://127.0.0.1:{redis_server.port}/0")
    for app in reader.apps:
        assert reader.read(app) == "0"
    return reader


def away(reader: Reader) -> None:
    """Wait until both have seen that the server is away."""

    def seen() -> bool:
        for app in reader.apps:
            reader.read(app, "/row/0")
        return not any(store.answers for store in reader.stores)

    until(seen, "the circuit is open")


def well_again(reader: Reader) -> None:
    """Wait until both ask the server again, and see that what is read then is right and kept."""
    until(lambda: all(store.answers for store in reader.stores), "the circuit is closed")
    reader.change()
    app = reader.apps[0]
    until(
        lambda: reader.read(app) == str(reader.row) and app.asked("/row/0") == ["hit"],
        "what is read is kept",
    )
    until(lambda: reader.read(reader.apps[1]) == str(reader.row), "the other process knows", 3)


def test_refused(reader: Reader, redis_server: RedisServer) -> None:
    redis_server.kill()
    away(reader)
    reader.look("refused")
    redis_server.start()
    well_again(reader)


def test_frozen(reader: Reader, redis_server: RedisServer) -> None:
    redis_server.freeze()
    away(reader)
    reader.look("frozen")
    redis_server.thaw()
    well_again(reader)


def test_restarted(reader: Reader, redis_server: RedisServer) -> None:
    for _ in range(2):
        redis_server.kill()
        redis_server.start()
        reader.look("restarted")
    well_again(reader)


def test_emptied(reader: Reader, redis_server: RedisServer) -> None:
    reader.look("well")
    redis_server.client.flushall()
    redis_server.client.script_flush()
    reader.look("emptied")
    well_again(reader)


def test_read_only(reader: Reader, redis_server: RedisServer) -> None:
    redis_server.client.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
    away(reader)
    reader.look("read-only")
    redis_server.client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    well_again(reader)


@pytest.mark.parametrize(
    "policy", ["noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl"]
)
def test_full(reader: Reader, redis_server: RedisServer, policy: str) -> None:
    used = redis_server.client.info("memory")["used_memory"]
    redis_server.client.config_set("maxmemory-policy", policy)
    redis_server.client.config_set("maxmemory", used + 1_000_000)
    for n in range(2000):
        try:
            redis_server.client.set(f"other:{n}", "x" * 1000, ex=3600)
        except OutOfMemoryError:
            break
    reader.look(f"full, {policy}")
    redis_server.client.config_set("maxmemory", 0)
    well_again(reader)


@contextmanager
def slow_port(server: RedisServer, seconds: float) -> Iterator[tuple[int, Callable[[], None]]]:
    """A port at which each answer of a server comes so many seconds later, from when it is told."""
    slow = [0.0]

    def carry(here: socket.socket, there: socket.socket, late: bool) -> None:
        with closing(here), closing(there):
            try:
                while data := here.recv(65536):
                    if late:
                        sleep(slow[0])
                    there.sendall(data)
            except OSError:
                pass

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                upstream = socket.create_connection(("127.0.0.1", server.port))
            except OSError:
                return
            Thread(target=carry, args=(client, upstream, False), daemon=True).start()
            Thread(target=carry, args=(upstream, client, True), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        Thread(target=serve, args=(listener,), daemon=True).start()

        def slow_down() -> None:
            slow[0] = seconds if not slow[0] else 0.0

        yield listener.getsockname()[1], slow_down


def test_slow(redis_server: RedisServer) -> None:
    with slow_port(redis_server, 1) as (port, switch):
        reader = Reader(f"redis://127.0.0.1:{port}/0")
        for app in reader.apps:
            reader.read(app)
        switch()
        away(reader)
        reader.look("slow")
        switch()
        well_again(reader)


def test_away_from_the_beginning() -> None:
    reader = Reader("redis://127.0.0.1:1/0")
    away(reader)
    reader.look("never there")
