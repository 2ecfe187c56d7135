"""The users of the Redis servers: each service may do there what its work needs, no more.

Whoever takes over one service can then not read the jobs of another, nor take or forge them. What
the keys hold is in `penstock.broker`, `penstock.records` and `penstock.storage.chunks`; how rules
are written, in Redis's documentation of ACL.
"""

from collections.abc import Callable
from hashlib import sha256

from penstock.catalogue import QUEUES

SERVICES = ("web", *(queue.name for queue in QUEUES), "scheduler", "flower")
# For backups, health checks and people; no service is given its password.
OPERATOR = "operator"
# For redis_exporter, of which compose.observability.yaml starts one beside each server.
EXPORTER = "exporter"
USERS = (*SERVICES, OPERATOR, EXPORTER)

# What every client says when it connects, and what `penstock.roles` and `penstock.clock` ask.
SESSION = (
    "+ping +echo +info +time +auth +hello +select +quit +reset +client|setinfo +client|setname"
    " +multi +exec +discard +watch +unwatch +script|load +script|exists"
)
DATA = "+@string +@hash +@list +@set +@sortedset +del +exists +expire +type +ttl"
SCRIPTS = "+eval +evalsha"
# Celery's control commands, their answers, and the events that Flower shows.
CONTROL = (
    "+publish +subscribe +unsubscribe +psubscribe +punsubscribe"
    " &/0.celery.pidbox &/0.celeryev/* &/0.celeryev/worker.*"
)
BINDINGS = "~_kombu.binding*"
REPLIES = f"{BINDINGS} ~*.celery.pidbox ~celeryev.*"
QUEUE_NAMES = " ".join(f"~{queue.name}" for queue in QUEUES)
# What jobs share: no key says of which queue it is.
SHARED = (
    "~penstock:leases ~penstock:reached ~penstock:delayed ~penstock:outbox ~penstock:nothing"
    " ~penstock:cancelled:* ~penstock:effects:* ~penstock:dead ~penstock:dead:*"
)


def _written(keys: str) -> str:
    """Return the patterns of keys that may be written to and not read."""
    return keys.replace("~", "%W~")


def _web() -> list[str]:
    """Bring jobs, look at dead letters and queue them again; count what there is, and take nothing.

    A script names the keys it may touch, and each command in it is allowed or not by itself. Of
    what waits, the next job can be read, which tells its age; of what workers hold and what is
    delayed, only how much it is.
    """
    letters = "~penstock:dead ~penstock:dead:*"
    counted = "~penstock:leases ~penstock:delayed:*"
    return [
        SESSION,
        f"({SCRIPTS} {QUEUE_NAMES} ~penstock:once:* {letters} ~penstock:effects:* {counted})",
        f"(+lpush +llen {_written(QUEUE_NAMES)})",
        f"(+lindex {QUEUE_NAMES.replace('~', '%R~')})",
        "(+zrange %R~penstock:leases)",
        "(+llen %R~penstock:held:*)",
        "(+zcard +zcount %R~penstock:delayed:*)",
        f"({DATA} ~penstock:once:* ~penstock:cancelled:* {letters} ~penstock:effects:*)",
        "(+rpush %W~penstock:outbox)",
        f"({SCRIPTS} {DATA} {BINDINGS})",
    ]


def _worker(queue: str) -> list[str]:
    """Take and end the jobs of one queue."""
    own = f"~{queue} ~penstock:held:*:{queue} ~penstock:delayed:{queue}"
    return [SESSION, SCRIPTS, DATA, CONTROL, own, SHARED, REPLIES]


def _scheduler() -> list[str]:
    """Bring jobs, and bring back those that are due or were left behind, of all queues."""
    return [
        SESSION,
        f"({SCRIPTS} {QUEUE_NAMES} ~penstock:*)",
        f"(+lpush +rpush +llen {_written(QUEUE_NAMES)})",
        f"({DATA} ~penstock:*)",
        f"({SCRIPTS} {DATA} {BINDINGS})",
    ]


def _exporter() -> list[str]:
    """Read what the server says of itself: no key, no configuration, nothing that was asked of it.

    `slowlog get` would show the arguments of commands.
    """
    return [
        "+ping +info +hello +auth +select +client|setname +client|setinfo +slowlog|len"
        " +latency|latest +latency|histogram"
    ]


def _flower() -> list[str]:
    """Listen, ask workers how they are, and see how long the queues are; never what is in them."""
    return [
        SESSION,
        CONTROL,
        f"({SCRIPTS} {DATA} {REPLIES})",
        f"(+llen {QUEUE_NAMES.replace('~', '%R~')})",
    ]


ALL = ["~* &* +@all"]
Rules = dict[str, Callable[[], list[str]]]
BROKER: Rules = {
    "web": _web,
    **{queue.name: lambda name=queue.name: _worker(name) for queue in QUEUES},  # type: ignore[misc]
    "scheduler": _scheduler,
    "flower": _flower,
    OPERATOR: lambda: ALL,
    EXPORTER: _exporter,
}
RECORDS = [
    SESSION,
    SCRIPTS,
    "+@hash +@string +exists +expire +del",
    "~penstock:job:* ~penstock:ended ~penstock:ended:seconds",
]
RESULTS: Rules = {
    **{name: lambda: RECORDS for name in SERVICES if name != "flower"},
    OPERATOR: lambda: ALL,
    EXPORTER: _exporter,
}
CACHE: Rules = {
    "web": lambda: [
        SESSION,
        SCRIPTS,
        "+get +set +mget +del +unlink +scan +pttl +pexpire +expire +hincrbyfloat +hgetall",
        "+publish +subscribe +unsubscribe &penstock:changes ~penstock:*",
    ],
    OPERATOR: lambda: ALL,
    EXPORTER: _exporter,
}
FILE_KEYS = "~penstock:file:* ~penstock:files:* ~penstock:chunk:*"
KEEP_FILES = [
    SESSION,
    f"({SCRIPTS} +hmget +hset +sadd +smembers +get +set +expire +unlink {FILE_KEYS})",
]
FILES: Rules = {
    **{name: lambda: KEEP_FILES for name in ("web", "image", "report")},
    # Attachments; it writes nothing.
    "email": lambda: [SESSION, f"(+hmget +get {FILE_KEYS.replace('~', '%R~')})"],
    OPERATOR: lambda: ALL,
    EXPORTER: _exporter,
}
ROLES: dict[str, Rules] = {"broker": BROKER, "results": RESULTS, "cache": CACHE, "files": FILES}


def acl_file(role: str, passwords: dict[str, str]) -> str:
    """Return the users of the server of `role`, for its setting aclfile.

    `passwords` has one for each user; the file holds their digests. Nobody comes in without one.
    """
    # Off, so nobody is it; but Redis replays its append-only file as this user, and silently leaves
    # out what the user may not do.
    lines = ["user default off resetpass ~* &* +@all"]
    for user, rules in ROLES[role].items():
        digest = sha256(passwords[user].encode()).hexdigest()
        lines.append(f"user {user} on #{digest} resetchannels -@all {' '.join(rules())}")
    return "\n".join(lines) + "\n"
