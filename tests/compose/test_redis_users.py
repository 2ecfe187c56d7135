"""What the user of each service may do in Redis, and what it is refused, on the running servers."""

import json

import pytest

from compose.conftest import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

REFUSED = "NOPERM"
TAKE = "return redis.call('RPOP', KEYS[1])"

# Of whom, what. Each is refused whatever the server holds.
NOT_ON_THE_BROKER = {
    "web": [
        "rpop email",
        "lrange email 0 -1",
        "lpop payment",
        "blmove email penstock:held:web:1:email right left 1",
        f"eval|{TAKE}|1|email",
        "lrange penstock:held:w:1:email 0 -1",
        "zrange penstock:delayed:email 0 -1",
        "lrange penstock:outbox 0 -1",
        "zadd penstock:leases 1 x",
        "lset email 0 x",
        "lindex penstock:held:w:1:email 0",
        "zrem penstock:leases x",
        "zrem penstock:delayed:email x",
        "publish /0.celery.pidbox x",
    ],
    "email": [
        "lpush payment x",
        "rpop payment",
        "lrange image 0 -1",
        f"eval|{TAKE}|1|payment",
        # The key that the script takes from is not one that it names.
        f"eval|{TAKE.replace('KEYS[1]', 'ARGV[1]')}|0|payment",
        "lrange penstock:held:w:1:payment 0 -1",
        "zadd penstock:delayed:payment 1 x",
        "set penstock:once:key x",
        "get mine",
    ],
    "payment": ["rpop email", "lpush email x", "lrange penstock:held:w:1:email 0 -1"],
    "scheduler": ["rpop email", "lrange payment 0 -1", f"eval|{TAKE}|1|report"],
    "flower": [
        "rpop email",
        "lrange email 0 -1",
        "lpush email x",
        "del email",
        "hgetall penstock:dead:letter:x",
        "lrange penstock:held:w:1:email 0 -1",
        "get penstock:once:key",
    ],
    "exporter": ["llen email", "get x", "config get maxmemory", "slowlog get 1", "client list"],
}
# What brings a server down or opens it, for every service.
NEVER = [
    "flushall",
    "flushdb",
    "keys *",
    "config get requirepass",
    "config set maxmemory 1",
    "acl list",
    "acl setuser x on",
    "shutdown nosave",
    "replicaof 127.0.0.1 1",
    "save",
    "script flush",
    "function flush",
    "client kill id 0",
    "monitor",
]


def _words(command: str) -> list[str]:
    return command.split("|") if "|" in command else command.split()


def _answers(stack: Stack, role: str, user: str, commands: list[list[str]]) -> list[str]:
    """Return what a server answers to each, over one connection."""
    quoted = "\n".join(" ".join(json.dumps(word) for word in words) for words in commands)
    said = stack.run(
        *("exec", "-T", "--env", f"REDISCLI_AUTH={stack.secret(f'redis_{user}')}", role),
        *("redis-cli", "--no-auth-warning", "--user", user),
        stdin=f"{quoted}\n",
    )
    return [line for line in said.splitlines() if line]


@pytest.mark.parametrize("user", NOT_ON_THE_BROKER)
def test_a_service_is_refused_in_the_broker_what_is_not_its_own(stack: Stack, user: str) -> None:
    commands = [_words(command) for command in (*NOT_ON_THE_BROKER[user], *NEVER)]
    answers = _answers(stack, "broker", user, commands)
    allowed = [
        command
        for command, answer in zip(commands, answers, strict=True)
        if REFUSED not in answer and "No permissions" not in answer and "ACL failure" not in answer
    ]
    assert allowed == []


def test_a_service_is_let_in_to_do_its_own(stack: Stack) -> None:
    for user in ("web", "email", "scheduler", "flower"):
        [answer] = _answers(stack, "broker", user, [["llen", "email"]])
        assert answer.isdigit()
    for role in ("broker", "results", "cache"):
        assert "used_memory:" in "".join(_answers(stack, role, "exporter", [["info"]]))


def test_web_may_count_what_there_is_to_do(stack: Stack) -> None:
    told = stack.run("exec", "-T", "web", "penstock", "queues", "--json")
    assert all(it["workers"] == 1 for it in json.loads(told)["items"]), told


@pytest.mark.parametrize("user", ["web", "email", "scheduler"])
def test_in_the_results_a_service_has_the_records_and_nothing_else(stack: Stack, user: str) -> None:
    own, *others = _answers(
        stack,
        "results",
        user,
        [["exists", "penstock:job:none"], ["get", "x"], *(it.split() for it in NEVER)],
    )
    assert REFUSED not in own
    assert all(REFUSED in answer for answer in others)


@pytest.mark.parametrize(
    ("role", "user"), [("results", "flower"), ("cache", "email"), ("cache", "flower")]
)
def test_a_server_does_not_know_whom_it_is_not_for(stack: Stack, role: str, user: str) -> None:
    assert "WRONGPASS" in stack.redis(role, "ping", user=user)


@pytest.mark.parametrize("role", ["broker", "results", "cache"])
def test_nobody_comes_in_without_a_password(stack: Stack, role: str) -> None:
    refused = stack.run("exec", "-T", role, "redis-cli", "ping")
    assert "NOAUTH" in refused


@pytest.mark.parametrize("role", ["broker", "results", "cache"])
def test_a_wrong_password_is_refused(stack: Stack, role: str) -> None:
    refused = stack.compose(
        *("exec", "-T", "--env", "REDISCLI_AUTH=wrong", role),
        *("redis-cli", "--no-auth-warning", "--user", "operator", "ping"),
    )
    assert "WRONGPASS" in refused.stdout + refused.stderr
