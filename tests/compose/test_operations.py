"""Backup, restore, scaling, kills and upgrades, on the running stack and under load."""

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from compose.conftest import Stack
from compose.load import NOTHING_WRONG, Load
from penstock_dev import archive

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

PAYMENT = {"amount": "19.90", "currency": "EUR"}
REPORT = {"dataset": "users", "formats": ["csv"]}
EVERY_SERVER = [
    *("payment", "broker", "results", "cache", "postgres", "web"),
    *("email", "image", "report", "scheduler", "flower"),
]


def until(condition: Callable[[], bool], what: str, limit: float = 60) -> None:
    deadline = monotonic() + limit
    while not condition():
        assert monotonic() < deadline, f"{what} did not come true within {limit} s"
        sleep(0.3)


def pay(stack: Stack, order: str) -> str:
    answer = stack.api("POST", "/api/payments", {"order": order, **PAYMENT})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def state(stack: Stack, job_id: str) -> str:
    return str(stack.api("GET", f"/api/task-status/{job_id}").json()["state"])


@dataclass(frozen=True)
class Kept:
    """What a stack had when it was backed up."""

    archive: Path
    article: dict[str, Any]
    file: str
    content: bytes
    done: str
    dead: str
    delayed: str
    waiting: str


@pytest.fixture(scope="module")
def kept(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A backup of a stack with a row, a file, and a job in each place where one can be."""
    new = {"author_id": 1, "title": "Kept", "body": "Over the end of the volumes."}
    article = stack.api("POST", "/api/articles", new).json()
    done = stack.api("POST", "/api/reports", REPORT).json()["task_id"]
    [made] = stack.ended(done)["result"]["files"]
    file = made["url"]
    content = stack.api("GET", file).content
    dead = pay(stack, "decline-1")
    assert stack.ended(dead)["state"] == "DEAD"
    stack.run("stop", "provider")
    delayed = pay(stack, "delayed-1")
    until(lambda: state(stack, delayed) == "RETRY", "the payment waits for another try")
    stack.run("stop", "payment")
    waiting = pay(stack, "waiting-1")
    folder = tmp_path_factory.mktemp("backups")
    done_backup = stack.task("backup", "--folder", str(folder))
    assert done_backup.returncode == 0, done_backup.stderr
    [path] = folder.glob("*.tar")
    return Kept(path, article, file, content, done, dead, delayed, waiting)


def resealed(path: Path, target: Path, old: bytes, new: bytes) -> Path:
    """Copy an archive with some bytes changed and a digest that fits."""
    content = path.read_bytes()[: -archive.DIGEST].replace(old, new, 1)
    target.write_bytes(content + sha256(content).hexdigest().encode())
    return target


def test_a_backup_is_for_its_owner_alone(kept: Kept) -> None:
    assert kept.archive.stat().st_mode & 0o777 == 0o600


def test_a_backup_says_that_files_which_are_kept_elsewhere_are_not_in_it(
    stack: Stack, tmp_path: Path
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"{stack.env_file.read_text()}\nPENSTOCK_FILES=s3://bucket/prefix\n")
    done = stack.task("backup", "--folder", str(tmp_path), COMPOSE_ENV_FILES=str(env_file))

    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "not the files, which are kept at s3://bucket/prefix" in said
    [path] = tmp_path.glob("*.tar")
    with tarfile.open(path) as archive:
        assert "files.tar" not in archive.getnames()


def test_a_damaged_archive_is_refused_and_nothing_is_changed(
    stack: Stack, kept: Kept, tmp_path: Path
) -> None:
    content = kept.archive.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    cases = {
        "cut": (content[: len(content) // 2], "is damaged or was cut off"),
        "flipped": (bytes(flipped), "is damaged or was cut off"),
        "empty": (b"", "is damaged or was cut off"),
    }
    before = stack.inspected()
    for name, (damaged, reason) in cases.items():
        path = tmp_path / f"{name}.tar"
        path.write_bytes(damaged)
        refused = stack.task("restore", "--yes", str(path))
        assert refused.returncode == 2
        assert reason in refused.stderr
        assert refused.stderr.endswith("Nothing was changed.\n")
        assert refused.stderr.count("\n") == 1
    newer = resealed(kept.archive, tmp_path / "newer.tar", b'"0.1.0"', b'"9.1.0"')
    refused = stack.task("restore", "--yes", str(newer))
    assert refused.returncode == 2
    assert "was made by Penstock 9.1.0, which is newer" in refused.stderr
    missing = stack.task("restore", "--yes", str(tmp_path / "nothing.tar"))
    assert "cannot be read: No such file" in missing.stderr
    after = stack.inspected()
    assert {name: it["Id"] for name, it in after.items()} == {
        name: it["Id"] for name, it in before.items()
    }


def test_a_restore_asks_first(stack: Stack, kept: Kept) -> None:
    refused = stack.task("restore", str(kept.archive), stdin="n\n")
    assert refused.returncode == 1
    assert "This replaces the database, the jobs" in refused.stderr
    unheard = stack.task("restore", str(kept.archive))
    assert (unheard.returncode, "--yes" in unheard.stderr) == (2, True)


def test_all_is_there_again_after_the_volumes_and_the_secrets_were_destroyed(
    stack: Stack, kept: Kept
) -> None:
    key = stack.secret("api_key")
    stack.run("down", "--volumes", "--remove-orphans", "--timeout", "10")
    shutil.rmtree(stack.secrets)

    restored = stack.task("restore", "--yes", str(kept.archive))
    assert restored.returncode == 0, restored.stderr

    assert stack.secret("api_key") == key
    assert stack.api("GET", f"/api/articles/{kept.article['id']}").json() == kept.article
    assert stack.api("GET", kept.file).content == kept.content
    assert stack.ended(kept.done)["state"] == "SUCCESS"
    letters = stack.api("GET", "/api/dead-letters").json()["items"]
    assert kept.dead in [letter["id"] for letter in letters]
    assert stack.ended(kept.waiting)["state"] == "SUCCESS"
    assert stack.ended(kept.delayed)["state"] == "SUCCESS"


def test_what_came_after_the_backup_is_gone_when_it_is_restored_over_a_running_stack(
    stack: Stack, kept: Kept
) -> None:
    late = {"author_id": 1, "title": "Late", "body": "After the backup."}
    article = stack.api("POST", "/api/articles", late).json()
    restored = stack.task("restore", "--yes", str(kept.archive))
    assert restored.returncode == 0, restored.stderr
    assert stack.api("GET", f"/api/articles/{article['id']}").status_code == 404
    assert stack.ended(kept.waiting)["state"] == "SUCCESS"


@pytest.mark.parametrize("name", ["redis_payment", "redis_operator", "database_password"])
def test_a_secret_is_changed_while_everything_runs(stack: Stack, name: str) -> None:
    old = stack.secret(name)
    changed = stack.task("rotate", name)
    assert changed.returncode == 0, changed.stderr
    assert stack.secret(name) != old
    assert stack.ended(pay(stack, f"rotated-{name}"))["state"] == "SUCCESS"
    assert stack.api("GET", "/api/articles?per_page=5").status_code == 200
    assert "error" not in stack.task("doctor").stderr


def test_a_queue_gets_more_workers_and_fewer_and_no_job_is_lost(stack: Stack) -> None:
    with Load(stack) as load:
        for count in (3, 1):
            scaled = stack.task("scale", "payment", str(count))
            assert scaled.returncode == 0, scaled.stderr
            assert len(stack.run("ps", "--quiet", "payment").split()) == count
            sleep(2)
    assert load.accepted
    assert load.outcome() == NOTHING_WRONG


def test_killing_each_container_in_turn_loses_nothing(stack: Stack) -> None:
    with Load(stack) as load:
        for service in EVERY_SERVER:
            [container] = stack.run("ps", "--quiet", service).split()
            subprocess.run(["docker", "kill", container], check=True, stdout=subprocess.DEVNULL)
            # Whoever kills a container by hand has the engine leave it; one that dies by itself is
            # started again.
            stack.run("up", "--detach", "--no-deps", "--no-recreate", "--wait", service)
        load_began = len(load.accepted)
        until(lambda: len(load.accepted) > load_began, "jobs are accepted again")
    assert load.outcome() == NOTHING_WRONG


def test_a_restart_of_everything_at_once_loses_nothing(stack: Stack) -> None:
    with Load(stack) as load:
        sleep(1)
        stack.run("restart", "--timeout", "20")
        stack.run("up", "--detach", "--wait", "--no-recreate")
        sleep(1)
    assert load.outcome() == NOTHING_WRONG


def test_an_upgrade_under_load_fails_no_request_and_loses_no_job(
    stack: Stack, tmp_path: Path
) -> None:
    # The version before had neither this secret nor this user.
    (stack.secrets / "operator_key").unlink()
    users = stack.secrets / "cache.acl"
    known = users.read_text()
    users.chmod(0o644)
    users.write_text(re.sub(r"^user exporter .*\n", "", known, flags=re.MULTILINE))
    assert stack.redis("cache", "acl", "load") == "OK"
    with Load(stack) as load:
        upgraded = stack.task("upgrade", "test-2", "--folder", str(tmp_path))
        assert upgraded.returncode == 0, upgraded.stderr
    assert load.outcome() == NOTHING_WRONG
    assert stack.secret("operator_key") == ""
    assert users.read_text() == known
    assert "exporter" in stack.redis("cache", "acl", "users")
    [backup] = tmp_path.glob("*.tar")
    assert f"./task restore -- {backup}" in upgraded.stdout.replace("\n", "")
    images = {name: it["Image"] for name, it in stack.containers().items()}
    assert images["web"] == "penstock-web:test-2"
    assert images["payment"] == "penstock-payment:test-2"
    assert images["proxy"] == "penstock-proxy:test-2"


def test_after_all_of_this_no_service_was_refused_anything_in_redis(stack: Stack) -> None:
    # redis_exporter asks for it unbidden, and may not have it: arguments of commands are in there.
    # Nor is it let in before it has its new password or is known at all.
    expected = {("exporter", "slowlog|get"), ("exporter", "AUTH")}
    for role in ("broker", "results", "cache"):
        refusals = json.loads(stack.redis(role, "--json", "acl", "log"))
        assert {(it["username"], it["object"]) for it in refusals} <= expected
