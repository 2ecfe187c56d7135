"""What the images leave out of the packages that they are built from."""

from fnmatch import fnmatchcase
from pathlib import Path

import psycopg
import pytest
from requirement_files import lines

PACKAGES = Path(psycopg.__file__).parents[1]


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [it.relative_to(PACKAGES).as_posix() for it in PACKAGES.rglob("*")]


@pytest.mark.parametrize("pattern", lines("unused-files.txt"))
def test_what_no_image_needs_is_still_among_the_packages(names: list[str], pattern: str) -> None:
    assert any(fnmatchcase(name, pattern) for name in names)
