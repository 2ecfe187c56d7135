"""Celery workers, started as their containers start them."""

import sys
from collections.abc import Callable
from pathlib import Path

from chaos.groups import Group
from chaos.jobs import QUEUE

Spawn = Callable[[list[str], str, dict[str, str]], Group]


class Worker:
    """A worker, which may be ended and started again; `settings` are PENSTOCK_... for it alone.

    With `memory` it gets no more than so many bytes of address space.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        spawn: Spawn,
        *,
        pool: str,
        concurrency: int = 2,
        memory: int | None = None,
        **settings: object,
    ) -> None:
        self.name = name
        self.starts = 0
        self._heartbeat = folder / f"{name}.heartbeat"
        limit = ["chaos.limited", str(memory), "-m"] if memory else []
        self._command = [sys.executable, "-m", *limit, "celery", "--app", "chaos.app", "worker"]
        self._command += ["--pool", pool, "--concurrency", str(concurrency)]
        self._command += ["--queues", QUEUE, "--hostname", f"{name}@%h", "--loglevel", "INFO"]
        self._environment = {f"PENSTOCK_{key.upper()}": str(it) for key, it in settings.items()}
        self._environment["PENSTOCK_HEARTBEAT"] = str(self._heartbeat)
        self._spawn = spawn
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        self.starts += 1
        self._heartbeat.unlink(missing_ok=True)
        self.group = self._spawn(self._command, self.name, self._environment)

    @property
    def ready(self) -> bool:
        """Whether it runs and says that it takes jobs."""
        return self.group.running and self._heartbeat.exists()
