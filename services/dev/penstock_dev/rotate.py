"""Changing a secret while the containers run."""

import json
from collections.abc import Iterable

from penstock_dev import containers, redis_users, secret_files
from penstock_dev.archive import Say

NAMES = (*secret_files.OURS, *secret_files.THEIRS)
# What a service has mounted in place of the secret that it is made of.
MOUNTED = {"flower_password": "flower_sign_in", "redis_exporter": "redis_exporter_passwords"}
# The old password comes by standard input, since the file has the new one already.
LOAD = "read -r REDISCLI_AUTH; export REDISCLI_AUTH; redis-cli --user operator -e acl load"


def rotate(name: str, say: Say) -> None:
    """Make a secret anew, tell the servers, and let the containers that use it begin anew.

    One that others issue is taken as its file has it now. Raises ContainersError.
    """
    folder = containers.secrets_folder()
    operator = secret_files.read(folder, "redis_operator")
    if name in secret_files.OURS:
        secret_files.renew(folder, name)
        say(f"{folder / name} has a new one")
    if name == "database_password":
        containers.set_database_password(secret_files.read(folder, name))
    for role, users in redis_users.ROLES.items():
        if name.removeprefix("redis_") in users and role in containers.running():
            say(f"the {role} reads its users")
            containers.tell(operator, "exec", "-T", role, "sh", "-c", LOAD)
    for service in _users_of(name):
        say(f"restarting {service}")
        scale = len(containers.running()[service])
        containers.compose(
            *("up", "--detach", "--no-deps", "--force-recreate", "--wait"),
            *("--scale", f"{service}={scale}", service),
        )


def _users_of(name: str) -> Iterable[str]:
    """Return the services that run and have a secret mounted, servers left out: they were told."""
    source = MOUNTED.get(name, name)
    services = json.loads(containers.compose("config", "--format", "json"))["services"]
    for service in containers.running().keys() - {*redis_users.ROLES, "postgres"}:
        if source in {secret["source"] for secret in services[service].get("secrets", ())}:
            yield service
