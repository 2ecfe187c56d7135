"""Redis servers that can be killed and come back with what they had."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from chaos.groups import Group
from chaos.waiting import until
from processes import free_port
from redis import Redis, RedisError

from penstock_dev.redis_server import find_redis_server

SETTINGS = Path(__file__).parents[2] / "services" / "redis"
START_LIMIT = 30.0

Spawn = Callable[[list[str], str], Group]


class Server:
    """A Redis server with the project's settings for its role."""

    def __init__(self, role: str, folder: Path, spawn: Spawn) -> None:
        self.role = role
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis(port=self.port, socket_timeout=5, socket_connect_timeout=5)
        self._folder = folder / role
        self._folder.mkdir()
        self._spawn = spawn
        self.start()

    def start(self) -> None:
        """Start, and return when it answers; a restarted one has then read what it had written."""
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self._folder}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [find_redis_server(), str(SETTINGS / f"{self.role}.conf"), *words]
        self._group = self._spawn(command, self.role)
        until(self._answers, f"the {self.role} server answers", START_LIMIT)

    def kill(self) -> None:
        """Kill it."""
        self._group.kill()

    def _answers(self) -> bool:
        with suppress(RedisError):
            return bool(self.client.ping())
        return False
