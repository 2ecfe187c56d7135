"""What every place for files promises: a folder, a bucket of S3 and a Redis server, all real."""

import random
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import SEEK_CUR, SEEK_END
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from servers import S3Server

from penstock import storage
from penstock.settings import Settings
from penstock.storage import Files
from penstock.storage.chunks import CHUNK
from penstock.storage.s3 import Bucket

KEY = "job-1/small.jpg"
# More than a part of S3 and than many chunks, and no multiple of either.
LARGE = random.Random(1).randbytes(20_000_001)


@pytest.fixture
def files(place: dict[str, Any]) -> Files:
    return storage.connect(Settings(**place))


@pytest.fixture
def kept(place: dict[str, Any], request: pytest.FixtureRequest) -> Callable[[], int]:
    """Count all that the place keeps, also what no key leads to."""
    where = place["files"]

    def count() -> int:
        if where.startswith("redis"):
            return int(str(Redis.from_url(where).dbsize()))
        if where.startswith("s3"):
            server: S3Server = request.getfixturevalue("s3_server")
            what = {"Bucket": server.BUCKET, "Prefix": where.rpartition("/")[2]}
            objects = server.client.list_objects_v2(**what).get("Contents", [])
            uploads = server.client.list_multipart_uploads(**what).get("Uploads", [])
            return len(objects) + len(uploads)
        return sum(path.is_file() for path in Path(where).rglob("*"))

    return count


def write(files: Files, key: str = KEY, content: bytes = b"content") -> None:
    with files.writing(key) as stream:
        stream.write(content)


def fail_half_way(files: Files, content: bytes = b"half") -> None:
    with files.writing(KEY) as stream:
        stream.write(content)
        raise RuntimeError("cut off")


def test_it_can_be_asked_whether_it_is_there(files: Files) -> None:
    files.ping()


@pytest.mark.parametrize(
    "content",
    [b"", b"content", LARGE[:CHUNK], LARGE[: CHUNK + 1], LARGE],
    ids=["empty", "small", "a chunk", "more than a chunk", "large"],
)
def test_what_was_written_is_read_back(files: Files, content: bytes) -> None:
    write(files, content=content)

    assert files.read(KEY) == content
    assert files.stat(KEY).size == len(content)


def test_a_name_may_be_what_a_client_calls_it(files: Files) -> None:
    key = "job-1/Übersicht %20 + (1): *?&=#.tar.gz"
    write(files, key)

    assert files.read(key) == b"content"
    files.remove("job-1")
    with pytest.raises(FileNotFoundError):
        files.stat(key)


@pytest.mark.parametrize("size", [100, len(LARGE)], ids=["small", "large"])
def test_a_file_appears_whole_and_nothing_is_seen_before(files: Files, size: int) -> None:
    with files.writing(KEY) as stream:
        stream.write(LARGE[:size])
        stream.flush()
        with pytest.raises(FileNotFoundError):
            files.stat(KEY)

    assert files.read(KEY) == LARGE[:size]


@pytest.mark.parametrize("size", [100, len(LARGE)], ids=["small", "large"])
def test_a_file_that_could_not_be_written_to_its_end_leaves_nothing(
    files: Files, kept: Callable[[], int], size: int
) -> None:
    with pytest.raises(RuntimeError, match="cut off"):
        fail_half_way(files, LARGE[:size])

    assert kept() == 0


def test_a_failed_second_writing_leaves_what_was_there(files: Files) -> None:
    write(files, content=b"first")
    with pytest.raises(RuntimeError):
        fail_half_way(files)

    assert files.read(KEY) == b"first"


def test_a_second_writing_replaces_the_first(files: Files) -> None:
    write(files, content=b"first")
    before = files.stat(KEY)
    write(files, content=b"the second")

    assert files.read(KEY) == b"the second"
    assert files.stat(KEY).version != before.version


def test_who_writes_may_go_back(files: Files) -> None:
    with files.writing(KEY) as stream:
        stream.write(b"0123456789")
        stream.seek(2)
        stream.write(b"two")

    assert files.read(KEY) == b"01two56789"


def test_two_who_write_the_same_key_at_once_leave_one_of_both(files: Files) -> None:
    contents = [bytes([number]) * 10_000_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: write(files, content=content), contents))

    assert files.read(KEY) in contents


@pytest.mark.parametrize(
    "key",
    [
        "../outside",
        "job/../../outside",
        "/etc/passwd",
        "a/b/../../..",
        "a/b/c",
        "a/..",
        "a/.hidden",
        "a/",
        "a",
        "",
        "a/b\x00",
    ],
)
def test_what_is_no_key_is_refused(files: Files, key: str) -> None:
    uses: tuple[Callable[[str], object], ...] = (
        files.stat,
        files.open,
        files.read,
        lambda key: write(files, key),
    )
    for use in uses:
        with pytest.raises(ValueError, match="is not a key"):
            use(key)


def test_what_is_not_there_is_said_to_be_missing(files: Files) -> None:
    write(files)
    uses: tuple[Callable[[str], object], ...] = (files.stat, files.open, files.read)
    for use in uses:
        with pytest.raises(FileNotFoundError):
            use("job-1/other.jpg")
    with pytest.raises(FileNotFoundError):
        files.describe("job-1/other.jpg", "image/jpeg")


def test_a_file_is_described_with_its_name_type_and_size(files: Files) -> None:
    write(files, content=b"12345")

    assert files.describe(KEY, "image/jpeg").model_dump() == {
        "key": KEY,
        "name": "small.jpg",
        "content_type": "image/jpeg",
        "size": 5,
    }


def test_it_is_read_from_anywhere(files: Files) -> None:
    write(files, content=LARGE)
    found, stream = files.open(KEY)
    assert found.size == len(LARGE)
    with stream:
        assert stream.read(10) == LARGE[:10]
        assert stream.seek(CHUNK - 5) == CHUNK - 5
        got = stream.read(4) + stream.read(2)
        assert got == LARGE[CHUNK - 5 :][: len(got)]
        assert stream.seek(-3, SEEK_END) == len(LARGE) - 3
        assert stream.read() == LARGE[-3:]
        assert stream.read(1) == b""
        stream.seek(-1, SEEK_CUR)
        assert stream.read() == LARGE[-1:]
        stream.seek(0)
        assert stream.read() == LARGE


def test_who_reads_it_gets_to_the_end_of_what_was_there(files: Files) -> None:
    write(files, content=LARGE)
    _, stream = files.open(KEY)
    with stream:
        begin = stream.read(100)
        write(files, content=b"other")
        try:
            assert begin + stream.read() == LARGE
        except storage.StorageError:
            # S3 keeps no replaced object, but it never gives a mixture of both.
            assert isinstance(files, Bucket)


def test_an_upload_whose_job_is_not_accepted_goes_again(
    files: Files, kept: Callable[[], int]
) -> None:
    def refuse() -> None:
        with files.uploading("job-1") as folder:
            write(files, f"{folder}/original", LARGE)
            write(files, f"{folder}/second")
            raise RuntimeError("not accepted")

    with pytest.raises(RuntimeError, match="not accepted"):
        refuse()

    assert kept() == 0


def test_an_upload_stays_and_is_not_among_the_jobs_outcomes(files: Files) -> None:
    with files.uploading("job-1") as folder:
        write(files, f"{folder}/original")

    assert files.read("job-1-in/original") == b"content"
    assert folder != "job-1"


def test_a_removed_folder_takes_no_other_with_it(files: Files) -> None:
    write(files, "job-1/a")
    write(files, "job-10/a")
    write(files, "job-1-in/a")
    files.remove("job-1")

    assert (files.read("job-10/a"), files.read("job-1-in/a")) == (b"content", b"content")
    with pytest.raises(FileNotFoundError):
        files.stat("job-1/a")


def test_a_folder_that_is_not_there_is_removed(files: Files) -> None:
    files.remove("job-1")


def test_expiry_leaves_what_is_not_old(files: Files) -> None:
    assert files.expire(100) == 0
    write(files)

    assert files.expire(100) == 0
    assert files.read(KEY) == b"content"


@pytest.mark.parametrize("place", ["s3", "redis"], indirect=True)
def test_without_a_folder_for_temporary_files_no_half_file_appears(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(OSError, match="nowhere"):
        write(files, content=LARGE)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        files.stat(KEY)
