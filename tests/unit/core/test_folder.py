"""What is special to a folder as the place for files; see tests/integration/test_storage.py."""

import os
from pathlib import Path
from time import time

import pytest

from penstock.storage import StorageError, StorageFullError
from penstock.storage.files import full_told
from penstock.storage.folder import Folder


@pytest.fixture
def files(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "files")


def write(files: Folder, key: str, content: bytes = b"content") -> Path:
    with files.writing(key) as stream:
        stream.write(content)
    return files.path(key)


def test_a_file_is_written_beside_its_place_and_nothing_else_stays(files: Folder) -> None:
    path = files.path("job-1/small.jpg")
    with files.writing("job-1/small.jpg") as stream:
        stream.write(b"content")
        stream.flush()
        assert not path.exists()
        assert len(list(path.parent.iterdir())) == 1

    assert [each.name for each in path.parent.iterdir()] == ["small.jpg"]


def test_a_file_that_could_not_be_written_to_its_end_leaves_nothing(files: Folder) -> None:
    def fail_half_way() -> None:
        with files.writing("job-1/small.jpg") as stream:
            stream.write(b"half")
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        fail_half_way()

    assert list((files.root / "job-1").iterdir()) == []


def test_another_service_with_another_user_can_read_the_file(files: Folder) -> None:
    assert write(files, "job-1/small.jpg").stat().st_mode & 0o777 == 0o644


def test_a_link_that_leads_out_of_the_folder_is_refused(files: Folder, tmp_path: Path) -> None:
    files.root.mkdir()
    (files.root / "job-1").symlink_to(tmp_path)

    with pytest.raises(ValueError, match="is not a key"):
        files.path("job-1/secret")


def test_an_upload_whose_job_is_not_accepted_leaves_no_folder(files: Folder) -> None:
    def refuse() -> None:
        with files.uploading("job-1") as folder:
            write(files, f"{folder}/original")
            raise RuntimeError("not accepted")

    with pytest.raises(RuntimeError, match="not accepted"):
        refuse()

    assert list(files.root.iterdir()) == []


def test_folders_in_which_nothing_changed_for_the_time_go(files: Folder) -> None:
    old, new = write(files, "old/a.csv").parent, write(files, "new/a.csv").parent
    os.utime(old, (time() - 101, time() - 101))
    os.utime(new, (time() - 50, time() - 50))

    assert files.expire(100) == 1
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_was_written_to_again_stays(files: Folder) -> None:
    folder = write(files, "job-1/a.csv").parent
    os.utime(folder, (0, 0))
    write(files, "job-1/a.csv")

    assert files.expire(100) == 0


def test_what_a_killed_writer_has_left_goes_with_its_folder(files: Folder) -> None:
    folder = write(files, "job-1/a.csv").parent
    (folder / ".tmp-half").write_bytes(b"half")
    os.utime(folder, (0, 0))

    assert files.expire(100) == 1
    assert list(files.root.iterdir()) == []


def test_a_file_where_a_folder_must_be_is_an_error_that_may_pass(files: Folder) -> None:
    files.root.mkdir()
    (files.root / "job-1").touch()

    with pytest.raises(StorageError, match="the folder for files: "):
        write(files, "job-1/a.csv")


def test_a_disk_without_room_is_told_apart() -> None:
    def write_to_it() -> None:
        with full_told("the disk"), Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"x")

    with pytest.raises(StorageFullError, match="the disk is full"):
        write_to_it()


def test_other_errors_of_those_who_write_are_passed_on(files: Folder) -> None:
    def fail() -> None:
        with files.writing("job-1/a.csv"):
            raise ConnectionResetError("of the database")

    with pytest.raises(ConnectionResetError, match="of the database"):
        fail()


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="the folder for files"):
        Folder(tmp_path / "file" / "files").ping()
