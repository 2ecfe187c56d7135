"""Whether a Redis server is set up for the role it has here, asked once when a process starts.

Eviction and persistence belong to a server. One that suits a cache loses jobs as a broker, and
nobody notices before it is full or restarted.
"""

import sys
from dataclasses import dataclass
from typing import Any

from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError
from redis import TimeoutError as RedisTimeoutError

from penstock.settings import PREFIX, Role, Settings, stop, without_password

# What the role's own configuration in services/redis sets.
POLICY: dict[Role, str] = {
    "broker": "maxmemory-policy noeviction",
    "results": "maxmemory-policy volatile-ttl",
    "cache": "maxmemory-policy allkeys-lfu",
    "files": "maxmemory-policy noeviction",
}
# What there is nowhere else.
LOST: dict[Role, str] = {"broker": "jobs", "files": "files"}


@dataclass(frozen=True)
class Fault:
    """What is wrong with a server, and what has to be set in it; a fatal one loses something."""

    what: str
    cure: str
    fatal: bool


def check(settings: Settings, *roles: Role) -> None:
    """Return when the servers of these roles are set up for them, or after saying what is wrong.

    Ends the process with exit code 2 where a server would lose what it is given, unless the setting
    role_guard is "warn". A server that does not answer is passed over; see `penstock.reach`.
    """
    if settings.role_guard == "off":
        return
    for role in roles:
        info = _info(settings, role)
        found = [] if info is None else faults(role, info)
        if not found:
            continue
        line = _line(settings, role, found)
        if settings.role_guard == "enforce" and any(fault.fatal for fault in found):
            stop(f"{line}, or {PREFIX}ROLE_GUARD=warn to start all the same")
        print(f"penstock: warning: {line}", file=sys.stderr, flush=True)


def _info(settings: Settings, role: Role) -> dict[str, Any] | None:
    """Return what the server says of itself, by INFO, since hosted ones do not allow CONFIG.

    None where it does not answer.
    """
    url = settings.redis(role)
    try:
        with Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            info: dict[str, Any] = client.info()
    except (RedisConnectionError, RedisTimeoutError):
        return None
    except RedisError:
        return {}
    return info


def faults(role: Role, info: dict[str, Any]) -> list[Fault]:
    """Return what is wrong with a server of this role that says this of itself, by INFO."""
    policy, append_only = info.get("maxmemory_policy"), info.get("aof_enabled")
    wanted = POLICY[role]
    found = []
    if policy is None:
        found.append(Fault("does not say which maxmemory-policy it has", wanted, fatal=False))
    elif role in LOST and policy != "noeviction":
        what = f"throws {LOST[role]} away when it is full (its maxmemory-policy is {policy})"
        found.append(Fault(what, wanted, fatal=True))
    elif role == "results" and policy.startswith("allkeys"):
        what = f"throws any record away when it is full (its maxmemory-policy is {policy})"
        found.append(Fault(what, wanted, fatal=True))
    elif role == "cache" and policy == "noeviction":
        what = "keeps nothing new when it is full (its maxmemory-policy is noeviction)"
        found.append(Fault(what, wanted, fatal=False))
    if role != "cache" and append_only == 0:
        what = "forgets what it holds when it is restarted (it has no append-only file)"
        found.append(Fault(what, "appendonly yes", fatal=role in LOST))
    return found


def _line(settings: Settings, role: Role, faults: list[Fault]) -> str:
    where = without_password(settings.redis_url(role))
    whats = " and ".join(fault.what for fault in faults)
    cures = " and ".join(f'"{fault.cure}"' for fault in faults)
    return (
        f"the {role} Redis at {where} {whats}: set {cures} in its configuration,"
        f" as services/redis/{role}.conf does"
    )
