"""The folder that the web tier and the workers share."""

import os
from pathlib import Path
from time import time

import pytest

from penstock.storage import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "files")


def write(files: Files, key: str, content: bytes = b"content") -> Path:
    with files.writing(key) as stream:
        stream.write(content)
    return files.path(key)


def test_what_was_written_is_read_back_under_its_key(files: Files) -> None:
    assert write(files, "job-1/small.jpg").read_bytes() == b"content"


def test_a_file_appears_whole_and_nothing_is_seen_before(files: Files) -> None:
    path = files.path("job-1/small.jpg")
    with files.writing("job-1/small.jpg") as stream:
        stream.write(b"content")
        stream.flush()
        assert not path.exists()

    assert [each.name for each in path.parent.iterdir()] == ["small.jpg"]


def test_a_file_that_could_not_be_written_to_its_end_leaves_nothing(files: Files) -> None:
    def fail_half_way() -> None:
        with files.writing("job-1/small.jpg") as stream:
            stream.write(b"half")
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        fail_half_way()

    assert list(files.path("job-1").iterdir()) == []


def test_a_failed_second_writing_leaves_what_was_there(files: Files) -> None:
    path = write(files, "job-1/small.jpg", b"first")

    def fail_half_way() -> None:
        with files.writing("job-1/small.jpg") as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()

    assert path.read_bytes() == b"first"


def test_a_second_writing_replaces_the_first(files: Files) -> None:
    write(files, "job-1/small.jpg", b"first")

    assert write(files, "job-1/small.jpg", b"second").read_bytes() == b"second"


def test_another_service_with_another_user_can_read_the_file(files: Files) -> None:
    assert write(files, "job-1/small.jpg").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("key", ["../outside", "job/../../outside", "/etc/passwd", "a/b/../../.."])
def test_a_key_that_leads_out_of_the_folder_is_refused(files: Files, key: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        files.path(key)


def test_a_link_that_leads_out_of_the_folder_is_refused(files: Files, tmp_path: Path) -> None:
    files.root.mkdir()
    (files.root / "job-1").symlink_to(tmp_path)

    with pytest.raises(ValueError, match="is not a key"):
        files.path("job-1/secret")


def test_a_file_is_described_with_its_name_type_and_size(files: Files) -> None:
    write(files, "job-1/small.jpg", b"12345")

    described = files.describe("job-1/small.jpg", "image/jpeg")

    assert described.model_dump() == {
        "key": "job-1/small.jpg",
        "name": "small.jpg",
        "content_type": "image/jpeg",
        "size": 5,
    }


def test_an_upload_whose_job_is_not_accepted_goes_again(files: Files) -> None:
    def refuse() -> None:
        with files.uploading("job-1") as folder:
            write(files, f"{folder}/original")
            raise RuntimeError("not accepted")

    with pytest.raises(RuntimeError, match="not accepted"):
        refuse()

    assert list(files.root.iterdir()) == []


def test_an_upload_stays_and_is_not_among_the_jobs_outcomes(files: Files) -> None:
    with files.uploading("job-1") as folder:
        path = write(files, f"{folder}/original")

    assert path.exists()
    assert folder != "job-1"


def test_folders_in_which_nothing_changed_for_the_time_go(files: Files) -> None:
    old, new = write(files, "old/a.csv").parent, write(files, "new/a.csv").parent
    os.utime(old, (time() - 101, time() - 101))
    os.utime(new, (time() - 50, time() - 50))

    assert files.expire(100) == 1
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_was_written_to_again_stays(files: Files) -> None:
    folder = write(files, "job-1/a.csv").parent
    os.utime(folder, (0, 0))
    write(files, "job-1/a.csv")

    assert files.expire(100) == 0


def test_expiry_before_anything_was_written_removes_nothing(files: Files) -> None:
    assert files.expire(0) == 0
