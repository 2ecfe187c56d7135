"""What an operator can have got wrong, told in a sentence before anything starts."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from compose.conftest import FILES, Stack, started
from penstock_dev import secret_files

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

VOLUMES = "broker", "postgres"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A project that has run before and keeps what it had on its volumes."""
    name, folder = f"penstock-again-{os.getpid()}", tmp_path_factory.mktemp("again")
    with started(name, folder, FILES, *VOLUMES) as stack:
        stack.run("down")
        yield stack


def refusals(stack: Stack) -> list[str]:
    """Return what the doctor finds wrong, of errors alone."""
    said = stack.task("doctor").stderr.splitlines()
    assert not stack.run("ps", "--all", "--quiet"), "nothing has started"
    return [line for line in said if line.startswith("penstock: error: ")]


def test_what_has_run_before_can_run_again(stopped: Stack) -> None:
    assert refusals(stopped) == []


def test_a_password_that_is_not_the_databases_is_named_with_its_file(stopped: Stack) -> None:
    path = stopped.secrets / "database_password"
    right = path.read_text()
    path.chmod(0o644)
    path.write_text("another")
    try:
        [line] = refusals(stopped)
    finally:
        path.write_text(right)
    assert f"{path} is not the password of the database on its volume" in line


def test_a_password_of_redis_that_its_users_file_does_not_have_is_named(stopped: Stack) -> None:
    path = stopped.secrets / "redis_email"
    path.chmod(0o644)
    path.write_text("another")
    lines = refusals(stopped)
    files = {f"{stopped.secrets / role}.acl" for role in ("broker", "results", "files")}
    assert {line.split()[2] for line in lines} == files
    assert all(line.endswith("the passwords that it is made of: run ./task env") for line in lines)
    secret_files.write(stopped.secrets)


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_that_cannot_be_written_to_is_named_with_what_mends_it(
    stopped: Stack, name: str
) -> None:
    volume = f"{stopped.project}_{name}"
    run = ["docker", "run", "--rm", "--user", "root", "--volume", f"{volume}:/volume"]
    subprocess.run([*run, "redis:8.0", "chown", "-R", "4242", "/volume"], check=True)
    [line] = refusals(stopped)
    assert f"{name} cannot write to the volume {volume}: " in line
    cure = line.partition("give it to its user with ")[2]
    subprocess.run(cure.split(), check=True)
    assert refusals(stopped) == []
