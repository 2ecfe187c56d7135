"""The file .env for the containers, made of deploy/.env.example."""

from pathlib import Path

from dotenv import dotenv_values


def write(example: Path, target: Path) -> None:
    """Write `target`, which its owner alone may read; FileExistsError if it exists."""
    with target.open("x") as stream:
        target.chmod(0o600)
        stream.write(example.read_text())


def read(path: Path) -> dict[str, str]:
    """Return the variables of an .env file; empty when there is none."""
    return {name: value or "" for name, value in dotenv_values(path).items()}
