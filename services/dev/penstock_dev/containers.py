"""The stack in containers, through the docker command.

Which project is meant, Compose decides as it does on the command line: by compose.yaml and .env, or
by COMPOSE_PROJECT_NAME and COMPOSE_ENV_FILES.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from penstock.catalogue import QUEUES
from penstock_dev import env

ROOT = Path(__file__).parents[3]
# From its own machine PostgreSQL asks for no password.
PSQL = ("exec", "-T", "postgres", "psql", "--quiet", "--username=penstock", "--dbname=penstock")
WORKERS = tuple(queue.name for queue in QUEUES)


class ContainersError(Exception):
    """A command of Docker failed; the text says which and what it said."""


def env_file() -> Path:
    """Return the .env file that Compose reads."""
    return Path(os.environ.get("COMPOSE_ENV_FILES") or ROOT / ".env")


def variables() -> dict[str, str]:
    """Return what .env says; what stands in the environment comes before it, as for Compose."""
    said = env.read(env_file())
    return {name: os.environ.get(name, value) for name, value in said.items()}


def files() -> list[Path]:
    """Return the Compose files that .env names, the first of which the others lie over."""
    named = variables().get("COMPOSE_FILE") or "compose.yaml"
    return [ROOT / name for name in named.split(os.pathsep)]


def overlays() -> set[str]:
    """Return the names of the files that lie over compose.yaml, such as compose.dev.yaml."""
    return {path.name for path in files()[1:]}


def secrets_folder() -> Path:
    """Return the folder with the secrets; a relative path is meant as Compose means it."""
    return ROOT / "deploy" / variables().get("PENSTOCK_SECRETS", "secrets")


def engine_answers() -> bool:
    """Return whether there is a docker command whose engine answers."""
    return shutil.which("docker") is not None and _docker("info", quiet=True) == 0


def up() -> int:
    """Build what is not built, start everything and return when it is healthy; the exit code."""
    return _docker("compose", "up", "--build", "--detach", "--wait")


def down() -> int:
    """Remove the containers; what they keep in volumes stays. Returns the exit code."""
    return _docker("compose", "down", "--remove-orphans")


def are_up() -> bool:
    """Return whether this project has containers."""
    listed = subprocess.run(
        ["docker", "compose", "ps", "--all", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    return listed.returncode == 0 and bool(listed.stdout.strip())


def running() -> dict[str, list[dict[str, Any]]]:
    """Return what Compose knows of the containers that run, by their service."""
    services: dict[str, list[dict[str, Any]]] = {}
    for line in compose("ps", "--format", "json").splitlines():
        container = json.loads(line)
        services.setdefault(container["Service"], []).append(container)
    return services


def compose(*words: str, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> str:
    """Run docker compose and return what it printed; raises ContainersError."""
    done = subprocess.run(
        ["docker", "compose", *words],
        cwd=ROOT,
        stdin=stdin or subprocess.DEVNULL,
        stdout=stdout or subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ContainersError(f"docker compose {words[0]}: {said[-1]}")
    return (done.stdout or b"").decode(errors="replace")


def tell(text: str, *words: str) -> None:
    """Run docker compose with a line as its input, which no list of processes shows."""
    with TemporaryFile() as stream:
        stream.write(f"{text}\n".encode())
        stream.seek(0)
        compose(*words, stdin=stream)


def set_database_password(password: str) -> None:
    """Let the running database know its user by this password."""
    literal = password.replace("'", "''")
    tell(f"ALTER USER penstock PASSWORD '{literal}';", *PSQL)


def docker(*words: str) -> str:
    """Run docker and return what it printed; raises ContainersError."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContainersError(f"docker {words[0]}: {done.stderr.strip()}")
    return done.stdout


def redis(role: str, *words: str) -> str:
    """Say something to the Redis server of a role as its operator; return the answer."""
    script = 'REDISCLI_AUTH=$(cat /run/secrets/redis_operator) redis-cli --user operator -e "$@"'
    return compose("exec", "-T", role, "sh", "-c", script, "sh", *words).strip()


def _docker(*words: str, quiet: bool = False) -> int:
    sink = subprocess.DEVNULL if quiet else None
    command = ["docker", *words]
    return subprocess.run(command, cwd=ROOT, stdout=sink, stderr=sink, check=False).returncode
