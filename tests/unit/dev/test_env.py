from pathlib import Path

import pytest

from penstock_dev import env

EXAMPLE = """\
# Each <random> becomes a secret.
API_KEY=<random>
REDIS_PASSWORD=<random>

PORT=8000
URL=http://h/?a=b
"""


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / ".env.example"
    path.write_text(EXAMPLE)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_each_secret_is_another_and_the_rest_stays_as_it_is(example: Path, target: Path) -> None:
    env.write(example, target)
    written = env.read(target)
    secrets = [written.pop("API_KEY"), written.pop("REDIS_PASSWORD")]
    assert len(set(secrets)) == 2
    assert all(len(secret) >= 32 and secret.isascii() for secret in secrets)
    assert written == {"PORT": "8000", "URL": "http://h/?a=b"}
    filled = EXAMPLE.replace("API_KEY=<random>", f"API_KEY={secrets[0]}")
    filled = filled.replace("REDIS_PASSWORD=<random>", f"REDIS_PASSWORD={secrets[1]}")
    assert target.read_text() == filled


def test_two_installations_have_different_secrets(example: Path, tmp_path: Path) -> None:
    targets = [tmp_path / "one", tmp_path / "two"]
    for target in targets:
        env.write(example, target)
    one, two = map(env.read, targets)
    assert one["API_KEY"] != two["API_KEY"]


def test_only_its_owner_can_read_the_secrets(example: Path, target: Path) -> None:
    env.write(example, target)
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_file_that_exists_is_left_alone(example: Path, target: Path) -> None:
    target.write_text("API_KEY=mine\n")
    target.chmod(0o640)
    with pytest.raises(FileExistsError):
        env.write(example, target)
    assert target.read_text() == "API_KEY=mine\n"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_value_in_quotes_is_read_without_them(target: Path) -> None:
    target.write_text("A='x$y#z'\nB=\"two words\"\nC=\n#D=x\n")
    assert env.read(target) == {"A": "x$y#z", "B": "two words", "C": ""}


def test_without_a_file_there_are_no_variables(target: Path) -> None:
    assert env.read(target) == {}
