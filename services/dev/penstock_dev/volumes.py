"""What the volumes of an earlier start hold against the next, found out while nothing runs."""

import hashlib
import hmac
import json
import re
import subprocess
from base64 import b64decode
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from penstock_dev import containers

# PostgreSQL by itself, for one question and without a port.
QUESTION = b"SELECT rolpassword FROM pg_authid WHERE rolname = 'penstock'\n"
# How it keeps a password: RFC 5803, section 3.
VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):([\w+/=]+)")


@dataclass(frozen=True)
class Mount:
    """A volume that is there, and a service that writes to it."""

    volume: str
    service: str
    image: str
    target: str
    # None is the image's own.
    user: str | None

    def run(
        self, program: str, *words: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program of the image, as the service's user and with this volume alone."""
        return subprocess.run(
            [
                *("docker", "run", "--rm", "--interactive", "--network", "none", "--pull", "never"),
                *("--volume", f"{self.volume}:{self.target}", "--entrypoint", program),
                *(("--user", self.user) if self.user else ()),
                *(self.image, *words),
            ],
            input=stdin,
            capture_output=True,
            check=False,
        )

    def is_closed(self) -> bool:
        """Return whether the service could not write; False also where the image is missing."""
        return self.run("test", "-w", self.target).returncode == 1


def mounts() -> list[Mount]:
    """Return the volumes that are there already, with one service for each of their users."""
    config = json.loads(containers.compose("config", "--format", "json"))
    names = {key: volume["name"] for key, volume in config.get("volumes", {}).items()}
    there = set(containers.docker("volume", "ls", "--quiet").split())
    found = {
        (mount.volume, mount.user or mount.image): mount
        for mount in _mounts(config["services"], names)
        if mount.volume in there
    }
    return list(found.values())


def _mounts(services: dict[str, Any], names: dict[str, str]) -> Iterable[Mount]:
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            if volume["type"] == "volume" and "source" in volume:
                yield Mount(
                    names[volume["source"]],
                    name,
                    service["image"],
                    volume["target"],
                    service.get("user"),
                )


def closed(found: list[Mount]) -> list[Mount]:
    """Return those that their service could not write to."""
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(Mount.is_closed, found)
        return [mount for mount, is_closed in zip(found, answers, strict=True) if is_closed]


def verifier(found: list[Mount]) -> str | None:
    """Return how the database on its volume keeps its password; None where it has none yet."""
    for mount in found:
        if mount.service == "postgres":
            words = ("--single", "-D", mount.target, "postgres")
            said = mount.run("postgres", *words, stdin=QUESTION).stdout.decode(errors="replace")
            if match := VERIFIER.search(said):
                return match[0]
    return None


def verifies(kept: str, password: str) -> bool:
    """Return whether a password is the one that is kept so (RFC 5802, section 3)."""
    match = VERIFIER.fullmatch(kept)
    assert match is not None
    rounds, salt, stored = int(match[1]), b64decode(match[2]), b64decode(match[3])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored)
