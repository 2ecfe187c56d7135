"""Servers that do not suit their role, and what is said of them when a process starts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from processes import environment, run
from servers import RedisServer

from penstock import roles
from penstock.settings import Role, Settings

ROOT = Path(__file__).parents[2]

Serve = Callable[..., RedisServer]
Said = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server with these options, `_` for `-`, which ends with the test."""
    with ExitStack() as servers:

        def start(**options: str) -> RedisServer:
            words = {name.replace("_", "-"): value for name, value in options.items()}
            return servers.enter_context(RedisServer(tmp_path, **words))

        yield start


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Check a server for a role and return what is printed; "ends: " before it when it ends."""

    def check(role: Role, url: str, **settings: Any) -> str:
        given = {"files" if role == "files" else f"{role}_url": url, **settings}
        try:
            roles.check(Settings(**given), role)
            end = ""
        except SystemExit as error:
            end = "ends: " if error.code == 2 else f"ends with {error.code}: "
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) <= 1
        return end + "".join(lines)

    return check


@pytest.mark.parametrize("role", ["broker", "results", "cache", "files"])
def test_the_configuration_of_a_role_suits_it(role: Role, serve: Serve, said: Said) -> None:
    server = serve(include=str(ROOT / "services" / "redis" / f"{role}.conf"))

    assert server.client.config_get("maxmemory")["maxmemory"] != "0"
    assert said(role, server.url) == ""


@pytest.mark.parametrize("role", ["broker", "results", "files"])
def test_one_server_for_all_roles_is_set_up_as_a_broker(
    role: Role, serve: Serve, said: Said
) -> None:
    server = serve(maxmemory_policy="noeviction")

    assert said(role, server.url) == ""
    assert said("cache", server.url).startswith("penstock: warning: the cache Redis at redis://")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_broker_that_evicts_is_refused_in_one_line_that_says_what_to_set(
    serve: Serve, said: Said, policy: str
) -> None:
    server = serve(maxmemory_policy=policy)
    line = said("broker", server.url)

    assert line.startswith(f"ends: penstock: the broker Redis at {server.url} throws jobs away")
    assert policy in line
    assert '"maxmemory-policy noeviction"' in line
    assert "services/redis/broker.conf" in line
    assert "PENSTOCK_ROLE_GUARD=warn" in line


def test_a_broker_without_an_append_only_file_is_refused(serve: Serve, said: Said) -> None:
    server = serve(appendonly="no")
    line = said("broker", server.url)

    assert line.startswith("ends: ")
    assert 'set "appendonly yes"' in line


@pytest.mark.parametrize(
    ("option", "cure"),
    [({"maxmemory_policy": "volatile-ttl"}, "noeviction"), ({"appendonly": "no"}, "appendonly")],
)
def test_files_that_would_be_lost_are_refused(
    serve: Serve, said: Said, option: dict[str, str], cure: str
) -> None:
    line = said("files", serve(**option).url)

    assert line.startswith("ends: penstock: the files Redis at redis://")
    assert cure in line


def test_everything_that_is_wrong_is_said_at_once(serve: Serve, said: Said) -> None:
    server = serve(appendonly="no", maxmemory_policy="allkeys-lfu")

    assert '"maxmemory-policy noeviction" and "appendonly yes"' in said("broker", server.url)


def test_results_that_throw_any_record_away_are_refused(serve: Serve, said: Said) -> None:
    server = serve(maxmemory_policy="allkeys-lru")
    line = said("results", server.url)

    assert line.startswith("ends: ")
    assert '"maxmemory-policy volatile-ttl"' in line


def test_results_without_an_append_only_file_are_warned_of(serve: Serve, said: Said) -> None:
    server = serve(appendonly="no", maxmemory_policy="volatile-ttl")

    assert said("results", server.url).startswith("penstock: warning: the results Redis")


@pytest.mark.parametrize(
    ("guard", "start"), [("warn", "penstock: warning: the broker"), ("off", "")]
)
def test_who_knows_better_can_start_all_the_same(
    serve: Serve, said: Said, guard: str, start: str
) -> None:
    server = serve(maxmemory_policy="allkeys-lru")
    line = said("broker", server.url, role_guard=guard)

    assert line.startswith(start)
    assert bool(line) == bool(start)


def test_a_server_is_asked_by_a_user_who_may_not_read_its_configuration(
    serve: Serve, said: Said
) -> None:
    server = serve(maxmemory_policy="allkeys-lru")
    rights = ("on", ">secret", "~*", "&*", "+@all", "-config")
    server.client.execute_command("ACL", "SETUSER", "app", *rights)  # type: ignore[no-untyped-call]
    line = said("broker", f"redis://app:secret@127.0.0.1:{server.port}/0")

    assert line.startswith("ends: ")
    assert "secret" not in line


def test_a_server_that_does_not_say_is_warned_of(serve: Serve, said: Said) -> None:
    server = serve(maxmemory_policy="allkeys-lru")
    rights = ("on", ">secret", "~*", "&*", "+@all", "-info", "-config")
    server.client.execute_command("ACL", "SETUSER", "app", *rights)  # type: ignore[no-untyped-call]
    line = said("broker", f"redis://app:secret@127.0.0.1:{server.port}/0")

    assert line.startswith("penstock: warning: the broker Redis")
    assert "does not say" in line


def test_a_server_that_is_down_is_no_matter_of_its_role(said: Said) -> None:
    assert said("broker", "redis://127.0.0.1:1/0") == ""


@pytest.mark.parametrize(
    "command",
    [
        "celery --app penstock.app worker --queues payment",
        "celery --app penstock.app beat",
        "penstock-flower",
        "gunicorn --config python:penstock_web.gunicorn_conf penstock_web.asgi:app",
    ],
)
def test_every_process_looks_at_its_broker_when_it_starts(
    command: str, serve: Serve, settings: Settings
) -> None:
    server = serve(maxmemory_policy="allkeys-lru")
    wrong = settings.model_copy(update={"broker_url": f"{server.url}/0"})
    env = environment(wrong, flower_sign_in="admin:secret", web_bind="127.0.0.1:0")
    answer = run(*command.split(), env=env)

    assert answer.returncode == 2, answer.stderr
    assert "throws jobs away" in answer.stderr.splitlines()[-1]
