"""Places for files that are away, slow, full or closed, or that a writer left in the middle."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any

import pytest
from processes import environment, run, until
from redis import Redis
from servers import RedisServer, S3Server, deaf_port

from penstock import storage
from penstock.settings import Settings
from penstock.storage import Files, StorageError, StorageFullError, s3
from penstock.storage.chunks import CHUNK, UNNAMED_TTL

KEY = "job-1/small.jpg"
MB = 1_000_000
# Writes and reads a large file in small pieces, as the writers of reports do.
WRITER = """
import sys
from penstock.settings import get_settings
from penstock.storage import connect

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000

files, block = connect(get_settings()), bytes(range(256)) * 256
with files.writing("warm-up/a") as stream:
    stream.write(block)
files.read("warm-up/a")
before = peak()
with files.writing("job-1/small.jpg") as stream:
    for _ in range(int(sys.argv[1]) * 1_000_000 // len(block)):
        stream.write(block)
    print("written", flush=True)
print(round(peak() - before), flush=True)
_, stream = files.open("job-1/small.jpg")
with stream:
    while data := stream.read(len(block)):
        assert set(data[:256]) <= set(block)
print(round(peak() - before), flush=True)
"""


@pytest.fixture
def own_s3(tmp_path: Path) -> Iterator[S3Server]:
    """A server of the test's own, which may be killed."""
    folder = tmp_path / "s3"
    folder.mkdir()
    with S3Server(folder) as server:
        yield server


@pytest.fixture(params=["s3", "redis"])
def server(request: pytest.FixtureRequest) -> RedisServer | S3Server:
    """A server of the test's own that keeps files."""
    names = {"s3": "own_s3", "redis": "redis_server"}
    given: RedisServer | S3Server = request.getfixturevalue(names[request.param])
    return given


def at(server: RedisServer | S3Server, **more: Any) -> Files:
    given = server.settings() if isinstance(server, S3Server) else {"files": f"{server.url}/0"}
    return storage.connect(Settings(**{**given, **more}))


def write(files: Files, content: bytes = b"content", key: str = KEY) -> None:
    with files.writing(key) as stream:
        stream.write(content)


def uses(files: Files) -> dict[str, Callable[[], object]]:
    return {
        "ping": files.ping,
        "write": lambda: write(files),
        "read": lambda: files.read(KEY),
        "stat": lambda: files.stat(KEY),
        "remove": lambda: files.remove("job-1"),
    }


# Away and slow


def test_a_server_that_is_down_is_an_error_that_passes(server: RedisServer | S3Server) -> None:
    files = at(server)
    write(files)
    server.kill()
    for name, use in uses(files).items():
        with pytest.raises(StorageError):
            use()
        assert name
    server.start()

    def again() -> bool:
        with suppress(StorageError):
            return files.read(KEY) == b"content"
        return False

    until(again, "the file is there again")


def test_a_server_that_stalls_for_a_moment_is_waited_for(server: RedisServer | S3Server) -> None:
    files = at(server)
    content = bytes(10 * MB)
    server.freeze()
    Timer(1.5, server.thaw).start()
    write(files, content)
    _, stream = files.open(KEY)
    with stream:
        begin = stream.read(CHUNK)
        server.freeze()
        Timer(1.5, server.thaw).start()
        assert begin + stream.read() == content


@pytest.mark.parametrize("kind", ["s3", "redis"])
def test_a_server_that_drops_packets_holds_nobody_for_long(kind: str) -> None:
    with deaf_port() as port:
        place = {"files": f"redis://127.0.0.1:{port}/0"}
        if kind == "s3":
            place = {
                "files": "s3://files",
                "s3_endpoint": f"http://127.0.0.1:{port}",
                "s3_access_key_id": "id",
                "s3_secret_access_key": "key",
            }
        given: dict[str, Any] = place
        files = storage.connect(Settings(**given))
        began = monotonic()
        with pytest.raises(StorageError):
            write(files)
        # Without limits of our own it would be minutes.
        assert monotonic() - began < 20


def test_an_upload_whose_place_went_away_raises_what_went_wrong(redis_server: RedisServer) -> None:
    files = at(redis_server)

    def upload() -> None:
        with files.uploading("job-1"):
            redis_server.kill()
            raise RuntimeError("not accepted")

    with pytest.raises(RuntimeError, match="not accepted"):
        upload()


# Full


def test_a_full_server_refuses_a_file_and_keeps_no_half(redis_server: RedisServer) -> None:
    files = at(redis_server)
    write(files, bytes(MB), "job-1/first")
    used = int(redis_server.client.info("memory")["used_memory"])
    redis_server.client.config_set("maxmemory", str(used + 5 * MB))
    before = redis_server.client.dbsize()

    with pytest.raises(StorageFullError, match="the files Redis is full"):
        write(files, bytes(20 * MB))

    assert redis_server.client.dbsize() == before
    write(files, bytes(MB))
    assert files.read(KEY) == bytes(MB)
    assert files.read("job-1/first") == bytes(MB)


def test_a_second_writing_that_has_no_room_leaves_the_first(redis_server: RedisServer) -> None:
    files = at(redis_server)
    write(files, b"first")
    redis_server.client.config_set("maxmemory", "1")
    with pytest.raises(StorageFullError):
        write(files, b"second")

    assert files.read(KEY) == b"first"
    files.remove("job-1")
    assert redis_server.client.dbsize() == 0


def test_a_chunk_fills_what_the_server_sets_aside_for_it(redis_server: RedisServer) -> None:
    files = at(redis_server)
    write(files, bytes(10 * CHUNK))
    [name, *_] = redis_server.client.keys("penstock:chunk:*:0")
    taken = int(str(redis_server.client.memory_usage(name, samples=0)))

    assert taken < CHUNK * 1.01


# Time


def test_all_that_is_kept_in_redis_has_a_time_to_live(redis_server: RedisServer) -> None:
    files = at(redis_server, files_ttl=1000)
    write(files, bytes(3 * CHUNK))
    write(files, b"other", "job-1/other")

    times = [redis_server.client.ttl(key) for key in redis_server.client.scan_iter()]
    assert len(times) == 3 + 1 + 2 + 1
    assert all(990 <= int(str(time)) <= 1000 for time in times)


def test_what_was_replaced_in_redis_goes_soon(redis_server: RedisServer) -> None:
    files = at(redis_server)
    write(files, bytes(3 * CHUNK))
    old = redis_server.client.keys("penstock:chunk:*")
    write(files, b"new")

    assert len(old) == 3
    assert all(0 < int(str(redis_server.client.ttl(key))) <= 300 for key in old)


def test_a_file_whose_first_chunks_went_is_not_entered(redis_server: RedisServer) -> None:
    files = at(redis_server)
    assert isinstance(files, storage.chunks.Chunks)
    redis_server.client.set("penstock:chunk:token:1", b"x")
    with pytest.raises(StorageError, match="took longer to write"):
        files._enter(KEY, "token", CHUNK + 1)
    with pytest.raises(FileNotFoundError):
        files.stat(KEY)


def test_a_file_that_goes_while_it_is_read_is_missing(redis_server: RedisServer) -> None:
    files = at(redis_server)
    write(files, bytes(2 * CHUNK))
    _, stream = files.open(KEY)
    with stream:
        stream.read(10)
        redis_server.client.flushall()
        with pytest.raises(FileNotFoundError, match="went while it was read"):
            stream.read()


def test_old_folders_in_s3_go_and_nothing_of_others(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = at(s3_server, files=f"s3://{s3_server.BUCKET}/of/expiry")
    for name in ("a", "b"):
        write(files, key=f"job-1/{name}")
    write(files, key="job-2/a")
    foreign = {"Bucket": s3_server.BUCKET, "Key": "of/expiry/of/others/a"}
    s3_server.client.put_object(**foreign, Body=b"x")
    outside = {"Bucket": s3_server.BUCKET, "Key": "of/expiry-not/a"}
    s3_server.client.put_object(**outside, Body=b"x")

    assert files.expire(3600) == 0
    assert files.read("job-1/a") == b"content"
    # As if all of it had been written two hours ago.
    monkeypatch.setattr(s3, "timedelta", lambda seconds: timedelta(seconds=seconds - 7200))
    assert files.expire(3600) == 2
    with pytest.raises(FileNotFoundError):
        files.stat("job-1/a")
    for theirs in (foreign, outside):
        s3_server.client.head_object(**theirs)


# Killed


@pytest.mark.parametrize("place", ["s3", "redis"], indirect=True)
def test_a_writer_that_is_killed_leaves_nothing_to_be_seen_and_nothing_for_ever(
    place: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(**place)
    files = storage.connect(settings)
    redis = Redis.from_url(place["files"]) if settings.files_in_redis else None
    s3_client = request.getfixturevalue("s3_server").client

    def left() -> list[Any]:
        if redis:
            return list(redis.keys("penstock:chunk:*"))
        prefix = {"Bucket": S3Server.BUCKET, "Prefix": place["files"].rpartition("/")[2]}
        return list(s3_client.list_multipart_uploads(**prefix).get("Uploads", []))

    command = [sys.executable, "-c", WRITER, "300"]
    env = environment(**place)
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"written\n"
        until(lambda: len(left()) > (1 if redis else 0), "it has begun to send")
        writer.kill()

    with pytest.raises(FileNotFoundError):
        files.stat(KEY)
    rest = left()
    assert rest
    if redis:
        # But for the chunk of what was written first.
        times = sorted(int(str(redis.ttl(key))) for key in rest)[:-1]
        assert all(0 < time <= UNNAMED_TTL for time in times)
        return
    files.expire(3600)
    assert left() == rest
    monkeypatch.setattr(s3, "UPLOAD_LIMIT", timedelta(0))
    files.expire(3600)
    assert left() == []


@pytest.mark.parametrize("place", ["folder", "s3", "redis"], indirect=True)
def test_a_large_file_is_written_and_read_in_little_memory(
    place: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = 100
    command = (sys.executable, "-c", WRITER, str(size))
    said = run(*command, env={**environment(**place), "TMPDIR": str(tmp_path)})
    assert said.returncode == 0, said.stderr
    written, read = map(int, said.stdout.split()[1:])
    with capsys.disabled():
        kind = place["files"].partition(":")[0] if "://" in place["files"] else "a folder"
        print(f"\n{size} MB in {kind}: +{written} MB to write, +{read} MB to read as well")
    assert read < size / 4


# Closed


def test_a_wrong_key_to_s3_is_refused(s3_server: S3Server) -> None:
    files = at(s3_server, s3_secret_access_key="wrong")
    for name, use in uses(files).items():
        with pytest.raises(StorageError, match=r"Signature|403|Forbidden"):
            use()
        assert name


# The beginning

WORKER = "celery --app penstock.app worker --queues image"


def refusal(redis_url: str, tmp_path: Path, **place: Any) -> str:
    """Return the line with which a worker of images refuses to start."""
    urls: dict[str, Any] = {"broker_url": f"{redis_url}/0", "results_url": f"{redis_url}/1"}
    env = environment(**urls, state=tmp_path, **place)
    answer = run(*WORKER.split(), env=env)
    assert answer.returncode == 2, answer.stderr
    return answer.stderr.strip().splitlines()[-1]


def test_s3_with_a_wrong_key_ends_a_worker_with_the_reason(
    redis_url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    place = s3_server.settings() | {"s3_secret_access_key": "wrong"}
    line = refusal(redis_url, tmp_path, **place)
    assert line.startswith("penstock: cannot reach the files at s3://files/ (")
    assert "SignatureDoesNotMatch" in line
    assert "check PENSTOCK_FILES" in line
    assert "wrong" not in line


def test_a_bucket_that_is_not_there_ends_a_worker_with_the_reason(
    redis_url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    place = s3_server.settings() | {"files": "s3://nowhere"}
    line = refusal(redis_url, tmp_path, **place)
    assert line.startswith("penstock: cannot reach the files at s3://nowhere (")
    assert "NoSuchBucket" in line


def test_s3_that_is_down_ends_a_worker_with_the_reason(
    redis_url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    place = s3_server.settings() | {"s3_endpoint": "http://127.0.0.1:1"}
    line = refusal(redis_url, tmp_path, **place)
    assert "Could not connect to the endpoint URL" in line


def test_a_folder_that_cannot_be_made_ends_a_worker_with_the_reason(
    redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    line = refusal(redis_url, tmp_path, files=tmp_path / "file" / "files")
    assert line.startswith(f"penstock: cannot reach the files at {tmp_path}/file/files (")
    assert "Not a directory" in line


def test_a_redis_for_files_that_is_down_ends_a_worker_with_the_reason(
    redis_url: str, tmp_path: Path
) -> None:
    line = refusal(redis_url, tmp_path, files="redis://127.0.0.1:1/0")
    assert line.startswith("penstock: cannot reach the files Redis at redis://127.0.0.1:1/0 (")
    assert "check PENSTOCK_FILES" in line


def test_a_redis_that_would_throw_files_away_ends_a_worker(
    redis_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client.config_set("maxmemory-policy", "allkeys-lru")
    line = refusal(redis_url, tmp_path, files=f"{redis_server.url}/0")
    assert "the files Redis at redis://" in line
    assert "throws files away when it is full" in line
    assert "services/redis/files.conf" in line
