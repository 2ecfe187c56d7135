"""What the Compose files, the catalogue, the settings and the Procfile must say alike."""

import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import compose_files
import pytest
import yaml

from penstock.catalogue import QUEUES, Queue
from penstock.settings import PREFIX, Settings
from penstock_dev import doctor
from penstock_dev.embedded import procfile
from penstock_dev.redis_users import SERVICES

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
BASE = compose_files.read("compose.yaml")["services"]
DEV = compose_files.read("compose.dev.yaml")["services"]
DEBUG = compose_files.read("compose.debug.yaml")["services"]
TLS = compose_files.read("compose.tls.yaml")["services"]
S3 = compose_files.read("compose.s3.yaml")["services"]
OBSERVABILITY = compose_files.read("compose.observability.yaml")["services"]
# In containers a catcher with a web page takes this one's place.
EMBEDDED_ONLY = {"mail"}
ONE_SHOT = {"migrate", "seed"}
# What is built here from services/, as opposed to what comes as an image.
OURS = {name: it for name, it in BASE.items() if "build" in it and name not in ONE_SHOT}
# Read by the payment provider and by Caddy.
NOT_SETTINGS = ("PENSTOCK_PROVIDER_", "PENSTOCK_DOMAIN")
# What the overlays add.
OVER = {**DEV, **TLS, **OBSERVABILITY}
ADDED = {name: service for name, service in OVER.items() if name not in BASE}
EVERY = {**BASE, **ADDED}
# The image has nothing that could ask; Prometheus does.
UNASKED = {name for name in OBSERVABILITY if name.endswith("-exporter")}


def test_the_project_has_one_name_whichever_file_is_the_first() -> None:
    way_in = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert way_in["name"] == compose_files.read("compose.yaml")["name"] == "penstock"


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("compose*.yaml")), ids=lambda path: path.name)
def test_the_doctor_knows_each_port_that_is_published(path: Path) -> None:
    known = {"compose.yaml": doctor.WEB_PORT, **doctor.PORTS}.get(path.name, {})
    published = re.findall(r"\$\{(PENSTOCK_\w+_PORT):-(\d+)}", path.read_text())
    assert {name: int(port) for name, port in published} == known


@pytest.mark.parametrize("services", [BASE, DEV, DEBUG], ids=["production", "dev", "debug"])
def test_the_schema_is_migrated_by_the_image_of_report_which_is_built_one_way(
    services: dict[str, Any],
) -> None:
    migrate, report = services["migrate"], services["report"]
    assert migrate["build"] == report["build"]
    assert migrate.get("image") == report.get("image")


def test_containers_and_the_procfile_run_the_same_commands() -> None:
    built = {**OURS, "provider": DEV["provider"]}
    commands = {name: shlex.split(service["command"]) for name, service in built.items()}
    assert commands == {name: words for name, words in procfile() if name not in EMBEDDED_ONLY}


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_each_queue_has_a_worker_that_gets_the_time_to_finish(queue: Queue) -> None:
    worker = BASE[queue.name]
    assert f"--queues {queue.name} " in worker["command"]
    assert worker["stop_grace_period"] == f"{queue.grace}s"


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_only_a_worker_that_reads_the_database_knows_of_it(queue: Queue) -> None:
    worker = BASE[queue.name]
    assert ("PENSTOCK_DATABASE_URL" in worker["environment"]) == queue.database
    assert ("migrate" in worker["depends_on"]) == queue.database


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_only_a_worker_that_works_on_files_knows_where_they_are(queue: Queue) -> None:
    worker = BASE[queue.name]
    assert ("PENSTOCK_FILES" in worker["environment"]) == queue.files
    assert ("s3_secret_access_key" in worker["secrets"]) == queue.files
    assert any("/penstock/files" in volume for volume in worker.get("volumes", [])) == queue.files


def test_with_the_overlay_for_s3_all_who_keep_files_can_reach_it() -> None:
    keepers = {"web", *(queue.name for queue in QUEUES if queue.files)}
    inside = {name for name in keepers if not {"edge", "app"} & set(BASE[name]["networks"])}
    assert {name: {"networks": ["app"]} for name in inside} == S3


def test_web_may_finish_its_requests_before_it_is_killed() -> None:
    from penstock_web import gunicorn_conf

    assert BASE["web"]["stop_grace_period"] == "30s"
    assert gunicorn_conf.graceful_timeout < 30


def test_every_variable_that_is_passed_is_a_setting() -> None:
    names = {
        name
        for service in (*BASE.values(), *DEV.values(), *TLS.values())
        for name in service.get("environment", {})
        if name.startswith(PREFIX) and not name.startswith(NOT_SETTINGS)
    }
    assert {name.removesuffix("_FILE") for name in names} <= {
        f"{PREFIX}{field.upper()}" for field in Settings.model_fields
    }


@pytest.mark.parametrize("name", EVERY.keys() - ONE_SHOT - UNASKED)
def test_a_service_is_checked_and_restarted(name: str) -> None:
    assert EVERY[name]["healthcheck"]["test"][0] == "CMD"
    assert EVERY[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_to_redis_as_its_own_user(name: str) -> None:
    assert BASE[name]["environment"]["PENSTOCK_REDIS_USER"] == name
    assert {"source": f"redis_{name}", "target": "redis_password"} in BASE[name]["secrets"]


@pytest.mark.parametrize("name", EVERY)
def test_a_container_can_do_what_it_needs_and_no_more(name: str) -> None:
    service = EVERY[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for limit in ("pids_limit", "mem_limit", "cpus"):
        assert service[limit], limit
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", ONE_SHOT)
def test_what_runs_once_is_waited_for(name: str) -> None:
    assert EVERY[name].get("restart", "no") == "no"
    waiting = [
        service["depends_on"][name]["condition"]
        for service in (*BASE.values(), *DEV.values())
        if name in service.get("depends_on", {})
    ]
    # `docker compose up --wait` takes the end of anything else for a failure.
    assert set(waiting) == {"service_completed_successfully"}


def test_only_web_is_open_in_production_and_to_this_machine_alone() -> None:
    assert {name for name, service in BASE.items() if "ports" in service} == {"web"}
    every = (*BASE.values(), *DEV.values(), *DEBUG.values(), *OBSERVABILITY.values())
    for service in every:
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_with_tls_the_proxy_alone_is_open() -> None:
    assert {name for name, service in TLS.items() if service.get("ports")} == {"proxy"}
    assert TLS["web"]["ports"] == []


def test_the_proxy_lets_through_what_web_takes() -> None:
    from penstock_web import factory

    [command] = TLS["proxy"]["command"][2:]
    assert f"PENSTOCK_UPLOAD_MAX + {factory.OVERHEAD}))" in command
    default = Settings.model_fields["upload_max"].default
    assert TLS["proxy"]["environment"]["PENSTOCK_UPLOAD_MAX"].endswith(f":-{default}}}")


def test_images_carry_the_version_of_the_packages() -> None:
    tags = [service["image"].rpartition("/")[2].split(":", 1) for service in EVERY.values()]
    ours = {tag for name, tag in tags if name.startswith("penstock-")}
    assert ours == {f"${{PENSTOCK_VERSION:-{version('penstock')}}}"}
    assert all(re.match(r"v?\d", tag) for name, tag in tags if not name.startswith("penstock-"))


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_of_its_own_folder_and_requirements(name: str) -> None:
    service = BASE[name]["build"]["args"]["SERVICE"]
    assert service == name
    assert (ROOT / "services" / service / "pyproject.toml").is_file()
    assert (ROOT / "requirements" / f"{service}.txt").is_file()


@pytest.mark.parametrize("name", OURS)
def test_live_reload_brings_sources_to_where_they_are_imported_from(name: str) -> None:
    watched: list[dict[str, Any]] = DEV[name]["develop"]["watch"]
    synced = {rule["path"]: rule["target"] for rule in watched if rule["action"] == "sync+restart"}
    assert synced == {
        f"../services/{folder}/{package}": f"/app/packages/{package}"
        for folder, package in (("core", "penstock"), (name, f"penstock_{name}"))
    }
    assert all((DEPLOY / rule["path"]).exists() for rule in watched)


def test_web_and_every_worker_can_be_debugged_and_each_has_a_port_of_its_own() -> None:
    debugged = {name: it["ports"] for name, it in DEBUG.items() if name not in ONE_SHOT}
    assert list(debugged) == ["web", *(queue.name for queue in QUEUES)]
    defaults = [re.sub(r"\$\{\w+:-(\d+)}", r"\1", port) for [port] in debugged.values()]
    assert defaults == [f"127.0.0.1:{5678 + place}:5678" for place in range(len(debugged))]


def test_a_debugger_is_in_an_image_only_where_the_overlay_for_it_asks() -> None:
    assert "ARG DEBUGGER=false\n" in (DEPLOY / "Dockerfile").read_text()
    asking = {path.name for path in DEPLOY.glob("compose*.yaml") if "DEBUGGER:" in path.read_text()}
    assert asking == {"compose.debug.yaml"}
    requirements = (ROOT / "requirements").glob("*.txt")
    pinning = {path.name for path in requirements if "debugpy==" in path.read_text()}
    assert pinning == {"debug.txt"}
