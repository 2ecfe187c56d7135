"""What keeps the containers from starting or running well, each in a sentence that says what to do.

Everything that can be known before a container starts is looked at before one does: `up` asks the
same questions first.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from penstock.roles import faults
from penstock.settings import PREFIX, Role, Settings
from penstock_dev import containers, env, redis_users, secret_files, volumes

# `develop.watch` with sync+restart and several files in `include` came with this one.
COMPOSE_SINCE = (2, 24)
EXAMPLE = containers.ROOT / "deploy" / ".env.example"
# The ports that each file publishes, by the setting that changes them. Web's goes where the other
# file's come.
WEB_PORT = {"PENSTOCK_WEB_PORT": 8000}
PORTS = {
    "compose.tls.yaml": {"PENSTOCK_HTTP_PORT": 80, "PENSTOCK_HTTPS_PORT": 443},
    "compose.dev.yaml": {
        "PENSTOCK_FLOWER_PORT": 5555,
        "PENSTOCK_MAIL_PORT": 1080,
        "PENSTOCK_PROVIDER_PORT": 8090,
    },
    "compose.debug.yaml": {
        "PENSTOCK_DEBUG_WEB_PORT": 5678,
        "PENSTOCK_DEBUG_EMAIL_PORT": 5679,
        "PENSTOCK_DEBUG_IMAGE_PORT": 5680,
        "PENSTOCK_DEBUG_REPORT_PORT": 5681,
        "PENSTOCK_DEBUG_PAYMENT_PORT": 5682,
    },
    "compose.observability.yaml": {"PENSTOCK_PROMETHEUS_PORT": 9090, "PENSTOCK_GRAFANA_PORT": 3000},
}
UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
# What Compose would read as nonsense, and the least with which the process starts.
LEAST_MEMORY = 64 * 2**20
# Below it the broker's append-only file and the database have nowhere to grow.
LEAST_DISK = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """What is wrong, and what to do about it; an error keeps the stack from working."""

    level: Literal["error", "warning"]
    text: str


Findings = Iterator[Finding]


def _error(text: str) -> Finding:
    return Finding("error", text)


def _warning(text: str) -> Finding:
    return Finding("warning", text)


def examine() -> list[Finding]:
    """Return all that can be found out, whether the stack runs or not."""
    found = before_start()
    if not any(finding.level == "error" for finding in found) and containers.are_up():
        found += [*_containers(), *_roles()]
    return found


def before_start() -> list[Finding]:
    """Return what can be known before anything starts."""
    engine = list(_engine())
    if engine:
        return engine
    written: tuple[Callable[[], Findings], ...] = (_keys, _values, _secrets, _ports)
    found = [finding for check in written for finding in check()]
    if any(finding.level == "error" for finding in found):
        # The others ask Compose, which would say the same again in words of its own.
        return found
    there: tuple[Callable[[], Findings], ...] = (_volumes, _memory, _disk, _clock)
    return found + [finding for check in there for finding in check()]


def _engine() -> Findings:
    if not shutil.which("docker"):
        yield _error("there is no docker command: install Docker Engine and its Compose plugin")
        return
    if not containers.engine_answers():
        yield _error("the Docker engine does not answer: start it, or let this user use it")
        return
    said = _said("docker", "compose", "version", "--short")
    release = re.match(r"v?(\d+)\.(\d+)", said)
    if not release or (int(release[1]), int(release[2])) < COMPOSE_SINCE:
        least = ".".join(map(str, COMPOSE_SINCE))
        yield _error(f"Docker Compose is {said or 'missing'}: {least} or later is needed")


def _keys() -> Findings:
    path = containers.env_file()
    if not path.is_file():
        yield _error(f"{path} does not exist: run ./task env")
        return
    known = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    for name in env.read(path):
        if name not in known and not name.startswith("COMPOSE_"):
            yield _warning(f"{name} in {path.name} is read by nothing: see deploy/.env.example")
    if "PENSTOCK_SECRETS" not in env.read(path):
        yield _error(f"PENSTOCK_SECRETS is missing in {path.name}: run ./task env")
    if "COMPOSE_FILE" in os.environ and "COMPOSE_ENV_FILES" not in os.environ:
        yield _error(
            "COMPOSE_FILE is set in the shell, and Compose then reads no .env: put it there instead"
        )
    for file in containers.files():
        if not file.is_file():
            yield _error(f"COMPOSE_FILE names {file}, which does not exist")
    if "compose.tls.yaml" in containers.overlays() and not env.read(path).get("PENSTOCK_DOMAIN"):
        yield _error("PENSTOCK_DOMAIN is missing in .env: set it to the name of this server")


def _values() -> Findings:
    given = containers.variables()
    settings = {
        name: value
        for name, value in given.items()
        if value and name.startswith(PREFIX) and _field(name) in Settings.model_fields
    }
    try:
        # Of what .env says alone; what else this process has in its environment is not meant.
        Settings.model_validate({_field(name): value for name, value in settings.items()})
    except ValidationError as error:
        for item in error.errors():
            name = f"{PREFIX}{str(item['loc'][0]).upper()}"
            reason = item["msg"].removeprefix("Value error, ")
            yield _error(f"{name} is {settings[name]!r} in .env: {_lower(reason)}")
    for name, value in given.items():
        if not value:
            continue
        if name == "PENSTOCK_DOMAIN" and not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", value):
            yield _error(f"{name} is {value!r} in .env: it must be a name such as www.example.com")
        if name.endswith("_MEMORY") and (_bytes(value) or 0) < LEAST_MEMORY:
            yield _error(f"{name} is {value!r} in .env: it must be 64m or more, such as 512m or 1g")
        if name in ("PENSTOCK_PIDS", "WEB_CONCURRENCY") and not re.fullmatch(r"[1-9]\d*", value):
            yield _error(f"{name} is {value!r} in .env: it must be a whole number above 0")
        if name == "PENSTOCK_CPUS" and not _is_processors(value):
            yield _error(
                f"{name} is {value!r} in .env: it must be a number above 0 and not above"
                f" {os.cpu_count()}, which this machine has"
            )


def _field(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _bytes(size: str) -> int | None:
    """Return the bytes that a size such as 512m means to Compose."""
    match = re.fullmatch(r"(\d+)([bkmg]?)b?", size.lower())
    return int(match[1]) * UNITS[match[2]] if match else None


def _is_processors(value: str) -> bool:
    try:
        return 0 < float(value) <= (os.cpu_count() or 1)
    except ValueError:
        return False


def _secrets() -> Findings:
    folder = containers.secrets_folder()
    if not folder.is_dir():
        yield _error(f"PENSTOCK_SECRETS names {folder}, which does not exist: run ./task env")
        return
    if folder.stat().st_mode & 0o077:
        yield _warning(f"others on this machine can look into {folder}: chmod 700 {folder}")
    for name in (*secret_files.OURS, *secret_files.THEIRS, *secret_files.MADE):
        path = folder / name
        if not path.is_file():
            yield _error(f"the secret {path} is missing: run ./task env")
        elif not path.stat().st_mode & 0o004:
            yield _error(f"the containers cannot read {path}: chmod 444 {path}")
        elif name not in secret_files.THEIRS and not path.read_text().strip():
            yield _error(f"the secret {path} is empty: remove it and run ./task env")
    with suppress(FileNotFoundError):
        for name, text in secret_files.made(folder).items():
            if (folder / name).read_text() != text:
                yield _error(
                    f"{folder / name} does not fit this version and the passwords that it is"
                    " made of: run ./task env"
                )


def _volumes() -> Findings:
    if containers.are_up():
        return
    try:
        found = volumes.mounts()
    except containers.ContainersError as error:
        yield _error(str(error))
        return
    closed = volumes.closed(found)
    for mount in closed:
        yield _error(
            f"{mount.service} cannot write to the volume {mount.volume}: give it to its user with"
            f" docker run --rm --user root --volume {mount.volume}:{mount.target}"
            f" --entrypoint chown {mount.image} -R {mount.user or 10001} {mount.target}"
        )
    kept = volumes.verifier([mount for mount in found if mount not in closed])
    folder = containers.secrets_folder()
    with suppress(FileNotFoundError):
        if kept and not volumes.verifies(kept, secret_files.read(folder, "database_password")):
            yield _error(
                f"{folder / 'database_password'} is not the password of the database on its volume:"
                " put the old one back, or see how to rotate it in docs/compose-secrets.md"
            )


def _ports() -> Findings:
    given = containers.variables()
    overlays = containers.overlays()
    ports = {} if "compose.tls.yaml" in overlays else dict(WEB_PORT)
    for file in overlays & PORTS.keys():
        ports |= PORTS[file]
    ours = containers.are_up()
    for name, default in ports.items():
        value = given.get(name) or str(default)
        if not re.fullmatch(r"\d+", value) or not 1 <= int(value) <= 65535:
            yield _error(f"{name} is {value!r} in .env: it must be a port, from 1 to 65535")
        elif not ours and _is_taken(int(value)):
            yield _error(f"the port {value} is in use: set {name} in .env to another one")


def _is_taken(port: int) -> bool:
    try:
        with closing(socket.create_server(("127.0.0.1", port))):
            return False
    except OSError:
        return True


def _memory() -> Findings:
    try:
        said = json.loads(containers.compose("config", "--format", "json"))
    except containers.ContainersError as error:
        yield _error(str(error))
        return
    limits = {
        name: int(service["mem_limit"])
        for name, service in said["services"].items()
        if "mem_limit" in service and service.get("restart") != "no"
    }
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name, limit in limits.items():
        if limit > there:
            yield _error(
                f"{PREFIX}{name.upper()}_MEMORY allows {_gb(limit)}, and this machine has"
                f" {_gb(there)}: set it lower in .env"
            )
    if sum(limits.values()) > there:
        yield _warning(
            f"the containers may take {_gb(sum(limits.values()))} together, and this machine has"
            f" {_gb(there)}: lower the PENSTOCK_..._MEMORY in .env, or the kernel ends one of them"
        )


def _gb(size: int) -> str:
    return f"{size / 2**30:.1f} GB"


def _disk() -> Findings:
    folder = Path(_said("docker", "info", "--format", "{{.DockerRootDir}}"))
    while not folder.exists():
        folder = folder.parent
    # The engine may be on another machine, or its folder closed to this user.
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
        if free < LEAST_DISK:
            yield _error(
                f"{folder}, where the volumes are, has {_gb(free)} left: free some, or the broker"
                " will take no more jobs (docker system df shows what takes it)"
            )


def _clock() -> Findings:
    if shutil.which("timedatectl"):
        said = _said("timedatectl", "show", "--property", "NTPSynchronized", "--value")
        if said == "no":
            yield _warning(
                "this machine's clock is not synchronized: timedatectl set-ntp true, or tokens and"
                " expiry times of other systems will not be understood"
            )


def _containers() -> Findings:
    for service, them in containers.running().items():
        for container in them:
            if container.get("Health") not in ("healthy", ""):
                yield _error(
                    f"{service} is {container['Health']}: see docker compose logs {service}"
                )
    tag = containers.variables().get("PENSTOCK_VERSION")
    for service, them in containers.running().items():
        for container in them:
            name, _, running = container["Image"].rpartition(":")
            if tag and name.startswith("penstock-") and running != tag:
                yield _warning(f"{service} runs {running}, and .env names {tag}: ./task upgrade")


def _roles() -> Findings:
    roles: tuple[Role, ...] = ("broker", "results", "cache")
    # A server that is somewhere else is none of our services.
    ours = containers.compose("config", "--services").split()
    for role in (role for role in roles if role in ours):
        try:
            said = containers.redis(role, "info")
        except containers.ContainersError as error:
            yield _error(f"the {role} does not answer: {error}")
            continue
        info = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
        told = {**info, "aof_enabled": int(info["aof_enabled"])}
        for fault in faults(role, told):
            text = f"the {role} {fault.what}: set {fault.cure!r} in services/redis/{role}.conf"
            yield _error(text) if fault.fatal else _warning(text)
        yield from _passwords(role)
        if info.get("aof_last_write_status") == "err":
            yield _error(f"the {role} cannot write its append-only file: is the disk full?")


def _passwords(role: Role) -> Findings:
    """Compare the users that a server has read with those that its file has now."""
    try:
        said = containers.redis(role, "acl", "list")
    except containers.ContainersError:
        return
    known = dict(re.findall(r"^user (\S+) on .*?#([0-9a-f]{64})", said, re.MULTILINE))
    folder = containers.secrets_folder()
    for user in redis_users.ROLES[role]:
        password = secret_files.read(folder, f"redis_{user}")
        if known.get(user) != sha256(password.encode()).hexdigest():
            yield _error(
                f"the {role} knows {user} by another password than redis_{user}: let it read its"
                " users anew, see docs/compose-secrets.md"
            )


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
