"""The containers, built and run for real under a project name of the tests' own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.catalogue import QUEUES
from penstock_dev import env

ROOT = Path(__file__).parents[2]
ROLES = {
    "broker": {"maxmemory-policy": "noeviction", "appendonly": "yes"},
    "results": {"maxmemory-policy": "volatile-ttl", "appendonly": "yes"},
    "cache": {"maxmemory-policy": "allkeys-lfu", "appendonly": "no"},
}
PACKAGES = {queue.name: queue.package for queue in QUEUES} | {
    name: f"penstock_{name}" for name in ("web", "scheduler", "flower")
}
ONE_SHOT = {"migrate", "seed"}

# Images are built where their layers are not at hand yet.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Stack:
    """A Compose project: its name and the .env file that it reads."""

    project: str
    env_file: Path

    def compose(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run docker compose; `variables` come before those of the .env file."""
        own = {name: value for name, value in os.environ.items() if not _is_compose(name)}
        return subprocess.run(
            ["docker", "compose", "-p", self.project, "--env-file", self.env_file, *words],
            cwd=ROOT,
            env=own | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *words: str, **variables: str) -> str:
        """Run docker compose, which must succeed, and return what it printed."""
        done = self.compose(*words, **variables)
        assert done.returncode == 0, f"docker compose {' '.join(words)}:\n{done.stderr}"
        return done.stdout

    def url(self, service: str, port: int) -> str:
        """Return the address at which the port of a service is published."""
        return f"http://{self.run('port', service, str(port)).strip()}"

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return what Compose knows of each service's container."""
        lines = self.run("ps", "--all", "--format", "json").splitlines()
        return {container["Service"]: container for container in map(json.loads, lines)}

    def left(self) -> str:
        """Return the ids of the containers, networks and volumes that the project has."""
        label = f"label=com.docker.compose.project={self.project}"
        return "".join(
            subprocess.check_output(
                ["docker", *words, "ls", "--quiet", "--filter", label], text=True
            )
            for words in (["container"], ["network"], ["volume"])
        )


def _is_compose(variable: str) -> bool:
    return variable.startswith(("PENSTOCK_", "COMPOSE_"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack of a first look, healthy."""
    env_file = tmp_path_factory.mktemp("stack") / ".env"
    env.write(ROOT / "deploy" / ".env.example", env_file)
    with env_file.open("a") as stream:
        stream.write("PENSTOCK_VERSION=test\n")
        # The engine finds a free port for each.
        for service in ("WEB", "FLOWER", "MAIL", "PROVIDER"):
            stream.write(f"PENSTOCK_{service}_PORT=0\n")
    stack = Stack(f"penstock-test-{os.getpid()}", env_file)
    try:
        stack.run("build", "--quiet")
        started = stack.compose("up", "--detach", "--wait")
        assert started.returncode == 0, started.stderr + stack.run("logs", "--tail", "20")
        yield stack
    finally:
        stack.run("down", "--volumes", "--remove-orphans")


def test_without_an_env_file_compose_names_the_command_that_writes_it() -> None:
    refused = Stack("penstock-test", Path(os.devnull)).compose("config")
    assert refused.returncode != 0
    assert "run ./task env first" in refused.stderr


def test_every_service_becomes_healthy(stack: Stack) -> None:
    containers = stack.containers()
    assert set(containers) == set(stack.run("config", "--services").split())
    for name, container in containers.items():
        if name in ONE_SHOT:
            assert (container["State"], container["ExitCode"]) == ("exited", 0)
        else:
            assert (container["State"], container["Health"]) == ("running", "healthy")


def test_the_demo_passes_against_the_containers(stack: Stack) -> None:
    options = {
        "against": stack.url("web", 8000),
        "key": env.read(stack.env_file)["PENSTOCK_API_KEY"],
        "mail": stack.url("mail", 1080),
        "provider": stack.url("provider", 8090),
    }
    demo = subprocess.run(
        [sys.executable, "-m", "penstock_dev", "demo"]
        # With an equals sign, since a key may begin with a dash.
        + [f"--{name}={value}" for name, value in options.items()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_redis_server_has_the_policy_of_its_role(stack: Stack, role: str) -> None:
    for setting, value in ROLES[role].items():
        answer = stack.run("exec", "-T", role, "redis-cli", "config", "get", setting)
        assert answer.split() == [setting, value]


def test_redis_refuses_who_does_not_know_the_password(stack: Stack) -> None:
    for role in ROLES:
        refused = stack.compose(
            "exec", "-T", "--env", "REDISCLI_AUTH=", role, "redis-cli", "-e", "ping"
        )
        assert refused.returncode != 0
        assert "NOAUTH" in refused.stdout + refused.stderr


@pytest.mark.parametrize("name", PACKAGES)
def test_a_process_is_a_plain_user_without_installers(stack: Stack, name: str) -> None:
    script = "id -u; command -v uv; python -m pip; python -m uv; true"
    assert stack.run("exec", "-T", name, "sh", "-c", script).split() == ["10001"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_imported_from_where_live_reload_puts_it(stack: Stack, name: str) -> None:
    package = PACKAGES[name]
    script = f"import penstock, {package}; print(penstock.__path__[0], {package}.__path__[0])"
    places = stack.run("exec", "-T", name, "python", "-c", script).split()
    assert places == ["/app/packages/penstock", f"/app/packages/{package}"]


def test_the_image_of_a_release_cannot_change_its_own_code(stack: Stack) -> None:
    release = {"PENSTOCK_OVERLAY": "compose.yaml", "PENSTOCK_VERSION": "test-release"}
    stack.run("build", "--quiet", "scheduler", **release)
    image = "penstock-scheduler:test-release"
    try:
        writable = "find /app -writable ( -type d -or -name *.py )"
        command = ["docker", "run", "--rm", image, *writable.split()]
        assert subprocess.check_output(command, text=True) == ""
    finally:
        subprocess.run(["docker", "image", "rm", image], check=True, stdout=subprocess.DEVNULL)


def test_an_idle_worker_that_is_told_to_stop_ends_by_itself(stack: Stack) -> None:
    stack.run("stop", "payment")
    # One that had to be killed when its grace was over would have 137.
    assert stack.containers()["payment"]["ExitCode"] == 0


def test_the_broker_and_the_results_outlive_a_restart_and_the_cache_does_not(stack: Stack) -> None:
    for role in ROLES:
        stack.run("exec", "-T", role, "redis-cli", "-e", "set", "kept", "yes")
    stack.run("restart", "--no-deps", *ROLES)
    stack.run("up", "--detach", "--wait", "--no-recreate", *ROLES)
    kept = {role: stack.run("exec", "-T", role, "redis-cli", "get", "kept") for role in ROLES}
    assert {role: value.strip() for role, value in kept.items()} == {
        "broker": "yes",
        "results": "yes",
        "cache": "",
    }


# The last one, for it takes the stack down.
def test_taking_it_down_leaves_nothing(stack: Stack) -> None:
    stack.run("down", "--volumes", "--remove-orphans")
    assert stack.left() == ""
