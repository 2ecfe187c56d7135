"""What the chart and the Compose files must say alike, and both as the catalogue has it."""

import re
import shlex
from typing import Any

import pytest
import yaml

from helm.chart import (
    Rendered,
    containers,
    environment,
    main_container,
    pod_of,
    rendered,
    with_values,
)
from helm.pods import UNITS
from penstock.catalogue import BY_QUEUE, QUEUES, Queue
from penstock.settings import PREFIX, Settings
from penstock.stack import MARGIN
from penstock_dev.chart import CHART
from penstock_dev.embedded import ROOT
from penstock_dev.redis_users import USERS

pytestmark = pytest.mark.helm

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
OURS = [*("web", "scheduler", "flower"), *(queue.name for queue in QUEUES)]
SERVERS = {"broker": "broker", "results": "results", "cache": "cache", "postgres": "postgresql"}
# Everything that is passed where it is set.
FULL = """
api: {operator: {key: o}}
smtp: {host: a.example, username: u, password: p, notificationUrl: https://a.example}
payment: {url: https://a.example, key: k}
flower: {prefix: /flower}
files:
  store: s3
  s3: {bucket: b, endpoint: https://a.example, region: r, accessKeyId: i, secretAccessKey: s}
"""
# Where the two differ, and why.
CHART_ALONE = {
    "PENSTOCK_GRACE": "softShutdown is a value; Compose leaves it to the catalogue",
    "GUNICORN_CMD_ARGS": "gracefulTimeout is a value, for the sake of preStop",
    "PENSTOCK_FLOWER_PREFIX": "Compose has it in an overlay",
    "PENSTOCK_FILES_TTL": "of all that use files",
    "PENSTOCK_IMAGE_MAX_PIXELS": "of all that use files",
}


@pytest.fixture(scope="module")
def full() -> Rendered:
    return with_values(FULL)


def _container(of: Rendered, part: str) -> dict[str, Any]:
    return main_container(pod_of(of.one("Deployment", part)))


@pytest.mark.parametrize("name", OURS)
def test_a_service_gets_the_same_variables(full: Rendered, name: str) -> None:
    ours = environment(_container(full, name)).keys() - CHART_ALONE.keys()
    theirs = COMPOSE[name]["environment"].keys() - CHART_ALONE.keys()
    assert ours == theirs


@pytest.mark.parametrize("name", OURS)
def test_a_secret_is_a_file_of_the_same_name(full: Rendered, name: str) -> None:
    pod = pod_of(full.one("Deployment", name))
    files = {
        item["path"]
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for item in source["secret"]["items"]
    }
    theirs = {it["target"] if isinstance(it, dict) else it for it in COMPOSE[name]["secrets"]}
    assert files == theirs
    env = environment(main_container(pod))
    assert {path.rpartition("/")[2] for key, path in env.items() if key.endswith("_FILE")} == files


def test_every_variable_is_a_setting(full: Rendered) -> None:
    names = {
        name
        for _, pod in full.pods()
        for container in containers(pod)
        for name in environment(container)
        if name.startswith(PREFIX) and not name.startswith("PENSTOCK_TEST_")
    }
    assert {name.removesuffix("_FILE") for name in names} <= {
        f"{PREFIX}{field.upper()}" for field in Settings.model_fields
    }


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_the_same_command(full: Rendered, name: str) -> None:
    assert _container(full, name)["command"] == shlex.split(COMPOSE[name]["command"])


def test_the_migration_is_the_same(full: Rendered) -> None:
    container = main_container(pod_of(full.one("Job", "migrate")))
    assert container["command"] == shlex.split(COMPOSE["migrate"]["command"])
    assert environment(container).keys() == COMPOSE["migrate"]["environment"].keys()


@pytest.mark.parametrize("name", [*OURS, *SERVERS])
def test_a_container_has_the_same_memory(name: str) -> None:
    part = SERVERS.get(name, name)
    kind = "StatefulSet" if name in SERVERS else "Deployment"
    container = main_container(pod_of(rendered("minimal").one(kind, part)))
    found = re.search(r":-(\d+)([mg])\}", COMPOSE[name]["mem_limit"])
    assert found
    theirs = int(found[1]) * {"m": 2**20, "g": 2**30}[found[2]]
    limit = container["resources"]["limits"]["memory"]
    assert int(limit[:-2]) * UNITS[limit[-2:]] == theirs


@pytest.mark.parametrize("name", ["broker", "results", "cache", "postgres"])
def test_a_server_gets_the_same_time_to_end(name: str) -> None:
    pod = pod_of(rendered("minimal").one("StatefulSet", SERVERS[name]))
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    assert f"{grace}s" == COMPOSE[name]["stop_grace_period"]


def test_ports_and_probes_are_the_same() -> None:
    for name, path in (("web", "/readyz"), ("flower", "/healthcheck")):
        container = _container(rendered("minimal"), name)
        [port] = container["ports"]
        assert f"127.0.0.1:{port['containerPort']}{path}" in COMPOSE[name]["healthcheck"]["test"][3]
        assert container["readinessProbe"]["httpGet"] == {"path": path, "port": "http"}
    for name in (*BY_QUEUE, "scheduler"):
        container = _container(rendered("minimal"), name)
        theirs = COMPOSE[name]["healthcheck"]["test"][1:]
        assert container["livenessProbe"]["exec"]["command"] == theirs
        assert container["readinessProbe"]["exec"]["command"] == [*theirs, "--ready"]
    postgres = main_container(pod_of(rendered("minimal").one("StatefulSet", "postgresql")))
    theirs = COMPOSE["postgres"]["healthcheck"]["test"][1:]
    assert postgres["readinessProbe"]["exec"]["command"] == theirs


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_a_worker_is_as_the_catalogue_has_its_queue(queue: Queue) -> None:
    worker = {**VALUES["workerDefaults"], **VALUES["workers"][queue.name]}
    assert worker["softLimit"] == max(job.soft_limit for job in queue.jobs)
    assert worker["hardLimit"] == max(job.hard_limit for job in queue.jobs)
    assert worker["grace"] == queue.grace
    assert worker["softShutdown"] == queue.grace - MARGIN
    assert ("database" in worker["needs"]) == queue.database
    assert ("files" in worker["needs"]) == queue.files
    scaling = {**VALUES["workerDefaults"]["autoscaling"], **worker["autoscaling"]}
    assert scaling["minReplicas"] == (0 if queue.scale_to_zero else 1)


def test_every_queue_has_a_worker_and_a_user_in_redis() -> None:
    assert VALUES["workers"].keys() == BY_QUEUE.keys()
    users = VALUES["redis"]["auth"]["existingSecretKeys"]
    assert users.keys() == {*USERS}


def test_images_are_those_that_are_built() -> None:
    parts = {name: _container(rendered("minimal"), name) for name in OURS}
    parts["migrate"] = main_container(pod_of(rendered("minimal").one("Job", "migrate")))
    for name, container in parts.items():
        image = container["image"]
        built = COMPOSE[name]["image"].replace("${PENSTOCK_VERSION:-", "").rstrip("}")
        assert image == built
    for role in ("broker", "results", "cache"):
        image = main_container(pod_of(rendered("minimal").one("StatefulSet", role)))["image"]
        assert image == COMPOSE[role]["image"]


def test_only_what_reads_the_database_waits_for_its_schema() -> None:
    waiting = {
        part
        for part, pod in rendered("minimal").pods()
        if ["penstock", "db", "wait"] in [it.get("command") for it in containers(pod)]
    }
    theirs = {name for name, it in COMPOSE.items() if "migrate" in it.get("depends_on", {})}
    assert waiting == theirs
