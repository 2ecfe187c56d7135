"""What the user of each service may do in a Redis server that keeps files, on a real one."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisError
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from penstock import storage
from penstock.settings import Settings
from penstock.storage import Files, StorageError
from penstock.storage.chunks import CHUNK
from penstock_dev import redis_users

pytestmark = pytest.mark.docker

CONF = Path(__file__).parents[2] / "services" / "redis" / "files.conf"
KEY = "job-1/small.jpg"


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the configuration and the users of the role.

    The password of each user is its name.
    """
    acl = tmp_path_factory.mktemp("files") / "files.acl"
    acl.write_text(redis_users.acl_file("files", {user: user for user in redis_users.USERS}))
    acl.parent.chmod(0o755)
    container = docker(
        *("run", "--detach", "--publish", "127.0.0.1::6379"),
        *("--volume", f"{CONF}:/etc/redis.conf:ro", "--volume", f"{acl}:/etc/users.acl:ro"),
        *("redis:8.0", "redis-server", "/etc/redis.conf", "--aclfile", "/etc/users.acl"),
    ).strip()
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container)


@pytest.fixture
def port(container: str) -> int:
    """The port at which the server answers."""
    return answering(container)


def answering(container: str) -> int:
    port = int(docker("port", container, "6379").splitlines()[0].rpartition(":")[2])
    patient = Retry(ConstantBackoff(0.1), 100)
    Redis(port=port, username="operator", password="operator", retry=patient).ping()
    return port


def files_of(port: int, user: str) -> Files:
    url = f"redis://127.0.0.1:{port}/0"
    return storage.connect(Settings(files=url, redis_user=user, redis_password=user))


def write(files: Files, content: bytes = b"content") -> None:
    with files.writing(KEY) as stream:
        stream.write(content)


@pytest.mark.parametrize("user", ["web", "image", "report"])
def test_a_service_may_keep_files(port: int, user: str) -> None:
    files = files_of(port, user)
    files.ping()
    write(files, bytes(2 * CHUNK))
    write(files)
    assert files.read(KEY) == b"content"
    files.remove("job-1")
    with pytest.raises(FileNotFoundError):
        files.stat(KEY)


def test_the_mail_worker_may_read_files_and_not_write_or_remove_them(port: int) -> None:
    write(files_of(port, "web"))
    files = files_of(port, "email")

    files.ping()
    assert files.read(KEY) == b"content"
    refused: tuple[Callable[[], None], ...] = (
        lambda: write(files),
        lambda: files.remove("job-1"),
    )
    for use in refused:
        with pytest.raises(StorageError, match="has no permissions"):
            use()


@pytest.mark.parametrize("user", ["web", "image", "report", "email"])
@pytest.mark.parametrize(
    "command",
    [
        "keys *",
        "scan 0",
        "flushall",
        "config get dir",
        "set other x",
        "get other",
        "eval return(redis.call('set','other','x')) 0",
        "save",
        "shutdown nosave",
        "acl list",
        "publish a b",
    ],
)
def test_nothing_else_is_allowed(port: int, user: str, command: str) -> None:
    client = Redis(port=port, username=user, password=user)
    with pytest.raises(RedisError, match=r"[Nn]o permissions|can't run this command|NOPERM"):
        client.execute_command(*command.split(" "))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("user", ["payment", "scheduler", "flower", "default"])
def test_who_has_no_files_is_not_let_in(port: int, user: str) -> None:
    with pytest.raises(StorageError, match="invalid username-password pair"):
        files_of(port, user).ping()


def test_what_is_kept_is_there_after_a_restart(container: str) -> None:
    write(files_of(answering(container), "web"), bytes(3 * CHUNK))
    docker("restart", container)
    assert files_of(answering(container), "email").read(KEY) == bytes(3 * CHUNK)
