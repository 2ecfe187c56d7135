"""A Compose project of the tests' own: the containers of production, on a real engine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import requests
from processes import free_port

from penstock_dev import env, secret_files

ROOT = Path(__file__).parents[2]
FILES = (
    "deploy/compose.yaml",
    "deploy/compose.tls.yaml",
    "deploy/compose.observability.yaml",
    "tests/compose/overlay.yaml",
)
ONE_SHOT = {"migrate", "seed"}
PUBLISHED = (
    *("WEB", "HTTP", "HTTPS", "FLOWER", "MAIL", "PROVIDER", "PROMETHEUS"),
    *("DEBUG_WEB", "DEBUG_PAYMENT"),
)
# What `docker compose` reads and no test may inherit.
COMPOSE_VARIABLES = ("PENSTOCK_", "COMPOSE_")


@dataclass(frozen=True)
class Stack:
    """A Compose project: its name, the .env file that it reads, and where its sources are."""

    project: str
    env_file: Path
    root: Path = ROOT

    @property
    def secrets(self) -> Path:
        """The folder with its secrets."""
        return self.env_file.parent / "secrets"

    def compose(
        self, *words: str, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run docker compose; `variables` come before those of the .env file."""
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(COMPOSE_VARIABLES)
        }
        return subprocess.run(
            ["docker", "compose", "-p", self.project, "--env-file", self.env_file, *words],
            cwd=self.root,
            env=own | variables,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *words: str, stdin: str | None = None, **variables: str) -> str:
        """Run docker compose, which must succeed, and return what it printed."""
        done = self.compose(*words, stdin=stdin, **variables)
        assert done.returncode == 0, f"docker compose {' '.join(words)}:\n{done.stderr}"
        return done.stdout

    def url(self, service: str, port: int) -> str:
        """Return the address at which the port of a service is published."""
        return f"http://{self.run('port', service, str(port)).strip()}"

    def secret(self, name: str) -> str:
        """Return one of its secrets."""
        return secret_files.read(self.secrets, name)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return what Compose knows of each service's container."""
        lines = self.run("ps", "--all", "--format", "json").splitlines()
        return {container["Service"]: container for container in map(json.loads, lines)}

    def inspected(self) -> dict[str, dict[str, Any]]:
        """Return what the engine says of each service's container."""
        ids = self.run("ps", "--all", "--quiet").split()
        found = json.loads(subprocess.check_output(["docker", "inspect", *ids], text=True))
        return {it["Config"]["Labels"]["com.docker.compose.service"]: it for it in found}

    def redis(self, role: str, *words: str, user: str = "operator") -> str:
        """Say something to a Redis server as one of its users; return the answer, errors too."""
        done = self.compose(
            *("exec", "-T", "--env", f"REDISCLI_AUTH={self.secret(f'redis_{user}')}", role),
            *("redis-cli", "--no-auth-warning", "--user", user, *words),
        )
        return (done.stdout + done.stderr).strip()

    def task(
        self, *words: str, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the tasks that ./task has for operators, on this project."""
        where = {"COMPOSE_PROJECT_NAME": self.project, "COMPOSE_ENV_FILES": str(self.env_file)}
        return subprocess.run(
            [sys.executable, "-m", "penstock_dev", *words],
            cwd=ROOT,
            env=os.environ | where | variables,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        """Send a request to the web tier with the API key."""
        headers["Authorization"] = f"Bearer {self.secret('api_key')}"
        url = f"{self.url('web', 8000)}{path}"
        return requests.request(method, url, json=body, headers=headers, timeout=10)

    def ended(self, job_id: str, limit: float = 60) -> dict[str, Any]:
        """Return what is known of a job when it has ended."""
        deadline = monotonic() + limit
        while (answer := self.api("GET", f"/api/task-status/{job_id}")).status_code != 200:
            assert monotonic() < deadline, answer.text
            sleep(0.3)
        return dict(answer.json())

    def left(self) -> str:
        """Return the ids of the containers, networks and volumes that the project has."""
        label = f"label=com.docker.compose.project={self.project}"
        return "".join(
            subprocess.check_output(
                ["docker", *words, "ls", "--quiet", "--filter", label], text=True
            )
            for words in (["container"], ["network"], ["volume"])
        )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack, healthy."""
    with started(f"penstock-test-{os.getpid()}", tmp_path_factory.mktemp("stack"), FILES) as stack:
        yield stack


@contextmanager
def started(
    project: str,
    folder: Path,
    files: Sequence[str],
    *services: str,
    root: Path = ROOT,
    tag: str = "test",
) -> Iterator[Stack]:
    """A project of these Compose files, with these services or all, healthy until the `with` ends.

    Images are built where their layers are not at hand yet.
    """
    stack = Stack(project, folder / ".env", root)
    env.write(ROOT / "deploy" / ".env.example", stack.env_file)
    secret_files.write(stack.secrets)
    with stack.env_file.open("a") as stream:
        stream.write(f"COMPOSE_FILE={':'.join(files)}\n")
        stream.write("PENSTOCK_DOMAIN=localhost\n")
        stream.write(f"PENSTOCK_VERSION={tag}\n")
        # So that a retry comes while the tests run.
        stream.write("PENSTOCK_RETRY_SCALE=0.1\n")
        stream.write(f"PENSTOCK_SECRETS={stack.secrets}\n")
        # Ports that stay over a restart, which those that the engine finds do not.
        for service in PUBLISHED:
            stream.write(f"PENSTOCK_{service}_PORT={free_port()}\n")
    try:
        stack.run("build", "--quiet", *services)
        up = stack.compose("up", "--detach", "--wait", *services)
        assert up.returncode == 0, up.stderr + stack.run("logs", "--tail", "20")
        yield stack
    finally:
        stack.run("down", "--volumes", "--remove-orphans", "--timeout", "10")
