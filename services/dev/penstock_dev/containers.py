"""The stack in containers, through the docker command."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def engine_answers() -> bool:
    """Return whether there is a docker command whose engine answers."""
    return shutil.which("docker") is not None and _docker("info", quiet=True) == 0


def up() -> int:
    """Build what is not built, start everything and return when it is healthy; the exit code."""
    return _docker("compose", "up", "--build", "--detach", "--wait")


def down() -> int:
    """Remove the containers; what they keep in volumes stays. Returns the exit code."""
    return _docker("compose", "down", "--remove-orphans")


def are_up() -> bool:
    """Return whether this project has containers."""
    listed = subprocess.run(
        ["docker", "compose", "ps", "--all", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    return listed.returncode == 0 and bool(listed.stdout.strip())


def _docker(*words: str, quiet: bool = False) -> int:
    sink = subprocess.DEVNULL if quiet else None
    command = ["docker", *words]
    return subprocess.run(command, cwd=ROOT, stdout=sink, stderr=sink, check=False).returncode
