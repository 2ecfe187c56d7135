from pathlib import Path

import pytest

from penstock_dev import redis_users, secret_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def test_each_secret_is_long_random_and_another(folder: Path) -> None:
    new = secret_files.write(folder)
    assert new == [*secret_files.OURS, *secret_files.THEIRS]
    ours = [secret_files.read(folder, name) for name in secret_files.OURS]
    assert len(set(ours)) == len(ours)
    assert all(len(secret) >= 32 and secret.isascii() for secret in ours)


def test_what_others_issue_begins_empty(folder: Path) -> None:
    secret_files.write(folder)
    assert [secret_files.read(folder, name) for name in secret_files.THEIRS] == [""] * 4


def test_a_second_time_changes_nothing(folder: Path) -> None:
    secret_files.write(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert secret_files.write(folder) == []
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_others_are_kept_out_by_the_folder_and_containers_are_not_by_the_files(
    folder: Path,
) -> None:
    secret_files.write(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}


def test_a_secret_that_was_removed_is_made_anew_and_goes_into_what_follows_from_it(
    folder: Path,
) -> None:
    secret_files.write(folder)
    old = {role: (folder / f"{role}.acl").read_text() for role in redis_users.ROLES}
    inodes = {path.name: path.stat().st_ino for path in folder.glob("*.acl")}
    (folder / "redis_email").unlink()
    assert secret_files.write(folder) == ["redis_email"]
    # A worker is no user of the cache.
    changed = {role for role in old if (folder / f"{role}.acl").read_text() != old[role]}
    assert changed == {"broker", "results", "files"}
    # A container that has the file mounted sees what it says now.
    assert {path.name: path.stat().st_ino for path in folder.glob("*.acl")} == inodes


def test_no_password_stands_in_an_acl_file(folder: Path) -> None:
    secret_files.write(folder)
    passwords = [secret_files.read(folder, f"redis_{user}") for user in redis_users.USERS]
    for role in redis_users.ROLES:
        text = (folder / f"{role}.acl").read_text()
        assert not any(password in text for password in passwords)


def test_the_sign_in_of_flower_has_its_password(folder: Path) -> None:
    secret_files.write(folder)
    password = secret_files.read(folder, "flower_password")
    assert secret_files.read(folder, "flower_sign_in") == f"admin:{password}"


def test_a_secret_that_is_made_anew_stays_the_file_that_containers_have_mounted(
    folder: Path,
) -> None:
    secret_files.write(folder)
    path = folder / "redis_operator"
    file, secret, users = path.stat().st_ino, path.read_text(), (folder / "broker.acl").read_text()
    secret_files.renew(folder, "redis_operator")
    assert path.stat().st_ino == file
    assert path.read_text() != secret
    assert (folder / "broker.acl").read_text() != users
