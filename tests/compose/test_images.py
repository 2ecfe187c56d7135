"""What is in each image, and what is not."""

import ast
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

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


def test_bytecode_is_there_so_that_a_read_only_container_starts_fast(stack: Stack) -> None:
    script = """
from importlib.util import cache_from_source
from pathlib import Path
sources = [it for it in Path("/app").rglob("*.py") if "bin" not in it.parts]
print([str(it) for it in sources if not Path(cache_from_source(it)).exists()])
"""
    said = stack.run("exec", "-T", "web", "python", "-c", script)
    # Templates for new migrations and the like are no modules.
    assert [path for path in ast.literal_eval(said) if "templates" not in path] == []


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
