"""What the engine says of the running containers, whatever the files say."""

import json
from typing import Any

import pytest

from compose.conftest import FILES, ONE_SHOT, Stack
from penstock.catalogue import QUEUES

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

EVERY = [
    *("web", "email", "image", "report", "payment", "scheduler", "flower"),
    *("migrate", "seed", "broker", "results", "cache", "postgres", "mail", "provider", "proxy"),
    *("prometheus", "broker-exporter", "results-exporter", "cache-exporter"),
]
# What a container may do beside, with the reason in its file.
CAPABILITIES = {"proxy": ["NET_BIND_SERVICE"]}
# An exporter has nothing to ask it with: Prometheus notices when it does not answer.
SERVERS = [name for name in EVERY if name not in ONE_SHOT and not name.endswith("-exporter")]


@pytest.fixture(scope="module")
def inspected(stack: Stack) -> dict[str, dict[str, Any]]:
    return stack.inspected()


def test_every_container_is_looked_at(inspected: dict[str, dict[str, Any]]) -> None:
    assert set(inspected) == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_a_container_has_no_privileges(inspected: dict[str, dict[str, Any]], name: str) -> None:
    host = inspected[name]["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    added = [capability.removeprefix("CAP_") for capability in host["CapAdd"] or ()]
    assert added == CAPABILITIES.get(name, [])
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert inspected[name]["Config"]["User"] not in ("", "0", "root")


@pytest.mark.parametrize("name", EVERY)
def test_a_container_writes_to_its_volumes_and_to_memory_alone(
    inspected: dict[str, dict[str, Any]], name: str
) -> None:
    assert inspected[name]["HostConfig"]["ReadonlyRootfs"] is True


@pytest.mark.parametrize("name", EVERY)
def test_a_container_cannot_take_the_whole_machine(
    inspected: dict[str, dict[str, Any]], name: str
) -> None:
    host = inspected[name]["HostConfig"]
    assert 0 < host["Memory"] <= 2**30
    assert host["NanoCpus"] > 0
    assert 0 < host["PidsLimit"] <= 256


@pytest.mark.parametrize("name", EVERY)
def test_what_a_container_says_is_kept_within_bounds(
    inspected: dict[str, dict[str, Any]], name: str
) -> None:
    logging = inspected[name]["HostConfig"]["LogConfig"]
    assert logging == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_checked_and_comes_back(
    inspected: dict[str, dict[str, Any]], name: str
) -> None:
    assert inspected[name]["State"]["Health"]["Status"] == "healthy"
    assert inspected[name]["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_a_worker_gets_the_time_of_its_longest_job(
    inspected: dict[str, dict[str, Any]], queue: Any
) -> None:
    assert inspected[queue.name]["Config"]["StopTimeout"] == queue.grace


@pytest.mark.parametrize("name", ["web", *(queue.name for queue in QUEUES)])
def test_a_process_with_children_has_an_init(
    inspected: dict[str, dict[str, Any]], name: str
) -> None:
    assert inspected[name]["HostConfig"]["Init"] is True


def test_no_secret_is_shown_to_who_may_ask_the_engine(
    stack: Stack, inspected: dict[str, dict[str, Any]]
) -> None:
    secrets = [path.read_text().strip() for path in stack.secrets.iterdir()]
    said = json.dumps(inspected)
    assert not [secret for secret in secrets if secret and secret in said]


def test_only_published_ports_are_of_this_machine_alone(
    inspected: dict[str, dict[str, Any]],
) -> None:
    bindings = {
        name: {
            address["HostIp"]
            for addresses in (it["NetworkSettings"]["Ports"] or {}).values()
            for address in addresses or ()
        }
        for name, it in inspected.items()
    }
    published = {name: addresses for name, addresses in bindings.items() if addresses}
    # All but the proxy are published for the tests.
    names = ("proxy", "web", "flower", "mail", "provider", "prometheus")
    assert published == {name: {"127.0.0.1"} for name in names}


@pytest.mark.parametrize(("files", "published"), [(FILES[:1], "web"), (FILES[:2], "proxy")])
def test_production_publishes_one_service_alone(
    stack: Stack, files: tuple[str, ...], published: str
) -> None:
    said = stack.run("config", "--format", "json", COMPOSE_FILE=":".join(files))
    services = json.loads(said)["services"]
    assert [name for name, service in services.items() if service.get("ports")] == [published]


@pytest.mark.parametrize(
    ("overlay", "elsewhere", "network"),
    [
        ("compose.external-database.yaml", {"postgres"}, "data"),
        ("compose.external-redis.yaml", {"broker", "results"}, "jobs"),
    ],
)
def test_a_server_of_ones_own_takes_the_place_of_a_container(
    stack: Stack, overlay: str, elsewhere: set[str], network: str
) -> None:
    urls = {
        "PENSTOCK_DATABASE_URL": "postgresql://penstock@db.example.com/penstock",
        "PENSTOCK_BROKER_URL": "rediss://redis.example.com:6379/0",
    }
    files = f"deploy/compose.yaml:deploy/{overlay}"
    said = json.loads(stack.run("config", "--format", "json", COMPOSE_FILE=files, **urls))
    assert not elsewhere & said["services"].keys()
    assert not said["networks"][network].get("internal")
    environment = said["services"]["report"]["environment"]
    assert urls.items() <= environment.items()


def test_the_memory_limit_of_env_is_the_engines(stack: Stack) -> None:
    said = stack.run("config", "--format", "json", PENSTOCK_EMAIL_MEMORY="300m", PENSTOCK_PIDS="99")
    email = json.loads(said)["services"]["email"]
    assert (email["mem_limit"], email["pids_limit"]) == (str(300 * 2**20), 99)
