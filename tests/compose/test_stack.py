"""The containers, built and run for real under a project name of the tests' own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose.conftest import ONE_SHOT, Stack
from penstock.catalogue import QUEUES

ROLES = {
    "broker": {"maxmemory-policy": "noeviction", "appendonly": "yes"},
    "results": {"maxmemory-policy": "volatile-ttl", "appendonly": "yes"},
    "cache": {"maxmemory-policy": "allkeys-lfu", "appendonly": "no"},
}
PACKAGES = {queue.name: queue.package for queue in QUEUES} | {
    name: f"penstock_{name}" for name in ("web", "scheduler", "flower")
}

# Images are built where their layers are not at hand yet.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


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
            # In redis_exporter's image there is nothing that could ask it.
            health = "" if name.endswith("-exporter") else "healthy"
            assert (container["State"], container["Health"]) == ("running", health)


def test_the_demo_passes_against_the_containers(stack: Stack) -> None:
    options = {
        "against": stack.url("web", 8000),
        "key": stack.secret("api_key"),
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
        assert stack.redis(role, "config", "get", setting).split() == [setting, value]


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


@pytest.mark.parametrize("name", PACKAGES)
def test_an_image_cannot_change_its_own_code(stack: Stack, name: str) -> None:
    writable = stack.run(
        "exec",
        "-T",
        name,
        *["find", "/app", "-writable", "(", "-type", "d", "-or", "-name", "*.py", ")"],
    )
    assert writable == ""


def test_an_idle_worker_that_is_told_to_stop_ends_by_itself(stack: Stack) -> None:
    stack.run("stop", "payment")
    ended = stack.containers()["payment"]
    stack.run("start", "payment")
    # One that had to be killed when its grace was over would have 137.
    assert ended["ExitCode"] == 0


def test_the_broker_and_the_results_outlive_a_restart_and_the_cache_does_not(stack: Stack) -> None:
    for role in ROLES:
        assert stack.redis(role, "set", "kept", "yes") == "OK"
    stack.run("restart", "--no-deps", *ROLES)
    stack.run("up", "--detach", "--wait", "--no-recreate", *ROLES)
    kept = {role: stack.redis(role, "getdel", "kept") for role in ROLES}
    assert kept == {"broker": "yes", "results": "yes", "cache": ""}
