"""The file .env for the containers, made of deploy/.env.example with secrets of its own."""

from pathlib import Path
from secrets import token_urlsafe

from dotenv import dotenv_values

PLACEHOLDER = "<random>"


def write(example: Path, target: Path) -> None:
    """Write `target`, each `<random>` replaced by another secret; FileExistsError if it exists."""
    lines = [
        line.replace(PLACEHOLDER, token_urlsafe(24)) if line.endswith(f"={PLACEHOLDER}") else line
        for line in example.read_text().splitlines()
    ]
    with target.open("x") as stream:
        target.chmod(0o600)
        stream.write("\n".join(lines) + "\n")


def read(path: Path) -> dict[str, str]:
    """Return the variables of an .env file; empty when there is none."""
    return {name: value or "" for name, value in dotenv_values(path).items()}
