"""The folder with the containers' secrets, a file for each, which Compose mounts into them."""

import json
from pathlib import Path
from secrets import token_urlsafe

from penstock_dev import redis_users

# Made here; what others issue (mail server, payment provider, S3) and a key that need not be there
# begin as empty files: not set.
OURS = (
    "api_key",
    "database_password",
    "flower_password",
    "grafana_password",
    *(f"redis_{user}" for user in redis_users.USERS),
)
THEIRS = ("smtp_password", "payment_key", "s3_secret_access_key", "operator_key")
# The files made of those above, which are written anew each time.
MADE = (
    "flower_sign_in",
    "redis_exporter_passwords",
    *(f"{role}.acl" for role in redis_users.ROLES),
)


def write(folder: Path) -> list[str]:
    """Make the secrets that are missing and what follows from them; return the names of the new.

    Containers read the files as users of their own, so anyone may: what keeps others on this
    machine out is the folder. Files are written in place, so that a container which has one mounted
    sees what it says now.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    new = [name for name in (*OURS, *THEIRS) if not (folder / name).exists()]
    for name in new:
        _write(folder / name, token_urlsafe(24) if name in OURS else "")
    for name, text in made(folder).items():
        _write(folder / name, text)
    return new


def renew(folder: Path, name: str) -> None:
    """Make one of `OURS` anew, and what follows from it."""
    _write(folder / name, token_urlsafe(24))
    write(folder)


def made(folder: Path) -> dict[str, str]:
    """Return what the files `MADE` are to say; FileNotFoundError where a secret is missing."""
    passwords = {user: read(folder, f"redis_{user}") for user in redis_users.USERS}
    return {
        "flower_sign_in": f"admin:{read(folder, 'flower_password')}",
        "redis_exporter_passwords": _for_exporters(passwords[redis_users.EXPORTER]),
        **{f"{role}.acl": redis_users.acl_file(role, passwords) for role in redis_users.ROLES},
    }


def _for_exporters(password: str) -> str:
    """Return the password of each server in the form of redis_exporter's REDIS_PASSWORD_FILE."""
    addresses = (f"redis://{redis_users.EXPORTER}@{role}:6379" for role in redis_users.ROLES)
    return json.dumps(dict.fromkeys(addresses, password))


def read(folder: Path, name: str) -> str:
    """Return a secret; FileNotFoundError where there is none."""
    return (folder / name).read_text().rstrip("\r\n")


def _write(path: Path, text: str) -> None:
    if path.exists():
        path.chmod(0o644)
    path.write_text(text)
    path.chmod(0o444)
