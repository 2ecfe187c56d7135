"""What is in each image, and what is not."""

import io
import json
import re
import subprocess
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from PIL import Image
from processes import until
from requirement_files import lines

from compose.conftest import ROOT, Stack
from penstock_dev import images

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

SERVICES = tuple(images.BUDGETS)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(service: str) -> dict[str, str]:
    """Return what a service's requirements pin, by name."""
    text = (ROOT / "requirements" / f"{service}.txt").read_text()
    found = re.findall(r"^([\w.-]+)==([^\s;]+)([^\\\n]*)", text, re.MULTILINE)
    return {canonical(name): release for name, release, _ in found}


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_stays_within_its_budget(stack: Stack, service: str) -> None:
    size = images.size_above_base(images.name(service, "test")) / images.MB
    assert size <= images.BUDGETS[service].most


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_what_its_service_pins_and_nothing_more(stack: Stack, service: str) -> None:
    installed = {
        canonical(name): release
        for name, release, _ in images.packages(images.name(service, "test"))
    }
    ours = {"penstock": version("penstock"), f"penstock-{service}": version("penstock")}
    wanted = pinned(service) | ours
    assert installed.keys() <= wanted.keys()
    assert installed == {name: wanted[name] for name in installed}
    # What is not installed is for another system or version of Python.
    for name in wanted.keys() - installed.keys():
        assert re.search(
            rf"^{re.escape(name)}==\S+ ;", _requirements(service), re.MULTILINE | re.IGNORECASE
        ), name


def _requirements(service: str) -> str:
    return (ROOT / "requirements" / f"{service}.txt").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_what_its_image_has(stack: Stack, service: str) -> None:
    script = """
import importlib, pkgutil, sys, os
os.environ.update(PENSTOCK_API_KEY="x", PENSTOCK_DATABASE_URL="sqlite://")
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if "migrations" not in module.name:
        importlib.import_module(module.name)
"""
    image = images.name(service, "test")
    command = ["docker", "run", "--rm", "--network", "none", image, "python", "-c", script]
    done = subprocess.run([*command, f"penstock_{service}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_no_tool_to_build_or_fetch_with(stack: Stack, service: str) -> None:
    script = (
        "for tool in pip pip3 uv gcc cc make strip curl wget git; do command -v $tool; done; true"
    )
    image = images.name(service, "test")
    command = ["docker", "run", "--rm", "--network", "none", image]
    assert subprocess.check_output([*command, "sh", "-c", script], text=True) == ""
    left = "find / -xdev ( -name pip -or -name ensurepip -or -name *.whl ) -not -path /proc/*"
    found = subprocess.run([*command, *left.split()], capture_output=True, text=True, check=False)
    assert found.stdout == ""


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_says_what_it_is_and_how_to_stop_it(stack: Stack, service: str) -> None:
    said = subprocess.check_output(
        ["docker", "image", "inspect", images.name(service, "test")], text=True
    )
    config = json.loads(said)[0]["Config"]
    assert config["User"] == "10001"
    assert config["StopSignal"] == "SIGTERM"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"penstock-{service}"
    assert labels["org.opencontainers.image.version"] == "test"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("service", [*SERVICES, "migrate"])
def test_a_process_starts_from_bytecode_since_it_could_not_write_any(
    stack: Stack, service: str
) -> None:
    name = f"{stack.project}-{service}-verbose"
    stack.run(
        *("run", "--detach", "--no-deps", "--name", name, "--env", "PYTHONVERBOSE=1", service)
    )
    try:
        wait_for_start(name)
        started = subprocess.run(["docker", "logs", name], capture_output=True, text=True)
        said = started.stderr
        if service not in {"web", "flower", "migrate"}:
            probe = ["docker", "exec", "--env", "PYTHONVERBOSE=1", name, "penstock", "health"]
            said += subprocess.run(probe, capture_output=True, text=True, check=True).stderr
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=True)
    # Several processes write to it, at times into each other's lines.
    loaded = set(re.findall(r"# code object from '(/app/[^'\s]+\.pyc)'$", said, re.MULTILINE))
    compiled = set(re.findall(r"^# code object from '?(/app/[^'\s]+\.py)'?$", said, re.MULTILINE))
    assert len(loaded) > 300
    assert sorted(compiled) == []


def wait_for_start(name: str) -> None:
    """Wait until a container is healthy, or has ended well; raise if it does neither."""
    form = (
        "{{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
    )

    def started() -> bool:
        said = subprocess.check_output(["docker", "inspect", "--format", form, name], text=True)
        status, code, *health = said.split()
        ended_well = (status, code) == ("exited", "0")
        assert status == "running" or ended_well, said
        return health == ["healthy"] or ended_well

    until(started, f"{name} has started")


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_lacks_nothing_that_its_packages_ask_for_but_what_is_named(
    stack: Stack, service: str
) -> None:
    script = """
import json
from importlib.metadata import distributions
from packaging.requirements import Requirement
asked = [Requirement(line) for it in distributions() for line in it.requires or ()]
print(json.dumps([it.name for it in asked if not it.marker or it.marker.evaluate({"extra": ""})]))
"""
    image = images.name(service, "test")
    said = subprocess.check_output(
        ["docker", "run", "--rm", "--network", "none", image, "python", "-c", script], text=True
    )
    asked = {canonical(name) for name in json.loads(said)}
    there = {canonical(name) for name, _, _ in images.packages(image)}
    assert asked - there == unused(service)


def unused(service: str) -> set[str]:
    """Return what requirements/lock leaves out for a service though something asks for it."""
    files = ["unused.txt", *(["unused-web.txt"] if service == "web" else [])]
    return {line for it in files for line in lines(it)}


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_no_file_that_is_named_as_unused_nor_what_c_is_made_from(
    stack: Stack, service: str
) -> None:
    image = images.name(service, "test")
    command = ["docker", "run", "--rm", "--network", "none", image, "find", "/app/.venv"]
    found = [
        path.partition("/site-packages/")[2]
        for path in subprocess.check_output(command, text=True).splitlines()
    ]
    assert "celery/app/base.py" in found
    patterns = [*lines("unused-files.txt"), "*.c", "*.pyx", "*.pyi"]
    assert [name for name in found if any(fnmatchcase(name, it) for it in patterns)] == []


@pytest.mark.parametrize("service", ["web", "report"])
def test_postgresql_is_reached_through_debians_libpq_which_gets_debians_corrections(
    stack: Stack, service: str
) -> None:
    script = """
import psycopg
print(psycopg.pq.__impl__)
mapped = {line.split()[-1] for line in open("/proc/self/maps")}
print(*(path for path in mapped if "libpq" in path or "libssl" in path))
"""
    image = images.name(service, "test")
    said = subprocess.check_output(
        ["docker", "run", "--rm", "--network", "none", image, "python", "-c", script], text=True
    )
    implementation, *libraries = said.split()
    assert implementation == "c"
    assert len(libraries) == 2
    assert all(path.startswith("/usr/lib/") for path in libraries)


def test_web_says_where_the_schema_is_migrated(stack: Stack) -> None:
    done = stack.compose("exec", "-T", "web", "penstock", "db", "migrate")
    assert done.returncode == 2
    assert done.stderr.startswith("penstock: Alembic is not installed here")


@pytest.mark.parametrize("service", sorted({*SERVICES} - {"web"}))
def test_the_command_of_celery_works_beside_a_worker(stack: Stack, service: str) -> None:
    image = images.name(service, "test")
    command = ["docker", "run", "--rm", "--network", "none", image, "celery"]
    for words in (["--app", "penstock.app", "report"], ["shell", "--help"], ["amqp", "--help"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_web_has_no_command_of_celery_that_would_end_in_an_error(stack: Stack) -> None:
    assert stack.compose("exec", "-T", "web", "sh", "-c", "command -v celery").stdout == ""


@pytest.mark.parametrize("service", [it for it in SERVICES if "boto3" in pinned(it)])
def test_clients_of_s3_and_of_the_keys_to_it_are_made(stack: Stack, service: str) -> None:
    script = """
import boto3
for name in ("s3", "sts"):
    print(boto3.client(name, region_name="eu-central-1").meta.endpoint_url)
print("eu-central-1" in boto3.Session().get_available_regions("s3"))
"""
    image = images.name(service, "test")
    said = subprocess.check_output(
        ["docker", "run", "--rm", "--network", "none", image, "python", "-c", script], text=True
    )
    assert said.split() == [
        "https://s3.eu-central-1.amazonaws.com",
        "https://sts.eu-central-1.amazonaws.com",
        "True",
    ]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_web_reads_pictures_to_their_end_with_the_codecs_that_it_has(
    stack: Stack, format_: str
) -> None:
    whole = picture(format_)
    assert upload(stack, whole).status_code == 202
    refused = upload(stack, whole[: len(whole) * 19 // 20])
    assert refused.status_code == 422
    # What lacks its end is no WebP from the first.
    wanted = "not a picture" if format_ == "WEBP" else "broken or cut off"
    assert wanted in refused.text


@pytest.mark.parametrize("format_", ["GIF", "TIFF", "AVIF"])
def test_web_refuses_a_picture_of_another_format(stack: Stack, format_: str) -> None:
    assert "wanted: JPEG, PNG, WEBP" in upload(stack, picture(format_)).text


def picture(format_: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((200, 200), 50).convert("RGB").save(stream, format_)
    return stream.getvalue()


def upload(stack: Stack, content: bytes) -> requests.Response:
    return requests.post(
        f"{stack.url('web', 8000)}/api/images",
        files={"file": ("picture", content, "application/octet-stream")},
        headers={"Authorization": f"Bearer {stack.secret('api_key')}"},
        timeout=10,
    )


def test_a_bill_of_materials_is_valid_and_names_what_is_in_the_image(
    stack: Stack, tmp_path: Path
) -> None:
    path = images.write_bill(images.name("email", "test"), tmp_path)
    text = path.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    urls = {component["purl"] for component in json.loads(text)["components"]}
    pins = pinned("email")
    assert f"pkg:pypi/celery@{pins['celery']}" in urls
    assert any(url.startswith("pkg:deb/debian/libc6@") for url in urls)


@pytest.mark.advisories
def test_no_pinned_dependency_has_a_known_vulnerability() -> None:
    command = [".venv/bin/pip-audit", "--strict", "--disable-pip", "--require-hashes"]
    command += ["--progress-spinner", "off", "--requirement", "requirements/all.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
