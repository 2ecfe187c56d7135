"""What the images leave out of the packages that they are built from."""

from fnmatch import fnmatchcase
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = Path(psycopg.__file__).parents[1]
PATTERNS = [
    line
    for line in (ROOT / "requirements" / "unused-files.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [it.relative_to(PACKAGES).as_posix() for it in PACKAGES.rglob("*")]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_no_image_needs_is_still_among_the_packages(names: list[str], pattern: str) -> None:
    assert any(fnmatchcase(name, pattern) for name in names)
