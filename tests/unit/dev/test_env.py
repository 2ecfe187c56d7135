from pathlib import Path

import pytest

from penstock_dev import env

EXAMPLE = "# What it is for.\nPORT=8000\nURL=http://h/?a=b\n"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / ".env.example"
    path.write_text(EXAMPLE)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_the_example_is_copied_for_its_owner_alone(example: Path, target: Path) -> None:
    env.write(example, target)
    assert target.read_text() == EXAMPLE
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_file_that_exists_is_left_alone(example: Path, target: Path) -> None:
    target.write_text("PORT=1\n")
    target.chmod(0o640)
    with pytest.raises(FileExistsError):
        env.write(example, target)
    assert target.read_text() == "PORT=1\n"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_value_in_quotes_is_read_without_them(target: Path) -> None:
    target.write_text("A='x$y#z'\nB=\"two words\"\nC=\n#D=x\n")
    assert env.read(target) == {"A": "x$y#z", "B": "two words", "C": ""}


def test_without_a_file_there_are_no_variables(target: Path) -> None:
    assert env.read(target) == {}
