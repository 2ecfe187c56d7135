"""Bringing the running containers to another version, one after the other."""

import re
from collections.abc import Collection
from pathlib import Path

from penstock_dev import archive, containers, redis_users, secret_files
from penstock_dev.archive import Say

# Workers first: a newer worker knows the jobs of an older web tier, and the reverse need not hold.
ORDER = (*containers.WORKERS, "scheduler", "flower", "web")
# What an overlay adds to those, where it is in use.
ADDED = ("proxy", "provider")


class UpgradeError(Exception):
    """The upgrade stopped; the text says where, and how to go back."""


def upgrade(version: str | None, backups: Path, say: Say) -> Path:
    """Back up, build, migrate and restart all at this version; return the backup.

    `version` goes into .env as the tag of the images; without it the tag stays as it is. A worker
    gets the time of its longest job to end, and what waits meanwhile is done by its successor.
    Raises UpgradeError and ContainersError.
    """
    say("backing up")
    backup = archive.back_up(backups, say)
    way_back = f"./task restore -- {backup}"
    previous = containers.variables().get("PENSTOCK_VERSION")
    if version:
        _set_version(containers.env_file(), version)
    try:
        say("building")
        containers.compose("build", "--quiet")
        _renew_secrets(say)
        say("migrating the database")
        containers.compose("run", "--rm", "--no-TTY", "migrate")
        for service in _services(containers.running()):
            say(f"restarting {service}")
            scale = len(containers.running().get(service, ())) or 1
            containers.compose(
                *("up", "--detach", "--no-deps", "--wait"),
                *("--scale", f"{service}={scale}", service),
            )
        _verify()
    except (containers.ContainersError, UpgradeError) as error:
        raise UpgradeError(
            f"{error}: to go back, set PENSTOCK_VERSION={previous or ''} in .env and {way_back}"
        ) from None
    return backup


def _renew_secrets(say: Say) -> None:
    """Write the secrets that the version before did not have, and let Redis know what users may."""
    folder = containers.secrets_folder()
    users = {role: folder / f"{role}.acl" for role in redis_users.ROLES}
    before = {role: path.read_text() for role, path in users.items() if path.exists()}
    if new := secret_files.write(folder):
        say(f"wrote to {folder}: {', '.join(new)}")
    for role in before.keys() & containers.running().keys():
        if users[role].read_text() != before[role]:
            say(f"the {role} reads its users")
            containers.redis(role, "acl", "load")


def _set_version(path: Path, version: str) -> None:
    text = path.read_text()
    line = f"PENSTOCK_VERSION={version}"
    if re.search(r"^PENSTOCK_VERSION=", text, re.MULTILINE):
        # The last one counts, for Compose as for us.
        text = re.sub(r"^PENSTOCK_VERSION=.*$", line, text, flags=re.MULTILINE)
    else:
        text += f"{line}\n"
    path.write_text(text)


def _services(running: Collection[str]) -> list[str]:
    return [*ORDER, *(service for service in ADDED if service in running)]


def _verify() -> None:
    """Raise UpgradeError unless every service runs the version of .env and is healthy."""
    wanted = containers.variables().get("PENSTOCK_VERSION")
    running = containers.running()
    for service in _services(running):
        for container in running.get(service, [{}]):
            tag = container.get("Image", "").rpartition(":")[2]
            if wanted and tag != wanted:
                raise UpgradeError(f"{service} runs {tag or 'nothing'} and not {wanted}")
            if container.get("Health") != "healthy":
                raise UpgradeError(f"{service} is not healthy")
