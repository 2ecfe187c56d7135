"""The Compose files as data."""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"


class _Loader(yaml.SafeLoader):
    """Reads Compose's own tags, which say how files are laid over each other, as plain values."""


def _sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_Loader.add_constructor("!reset", _sequence)


def read(name: str) -> dict[str, Any]:
    """Return a file of the folder deploy."""
    content: dict[str, Any] = yaml.load((DEPLOY / name).read_text(), _Loader)  # noqa: S506
    return content
