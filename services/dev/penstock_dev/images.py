"""What is in the images: how large each is above its base, and a bill of materials of each."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

BASE = "python:3.13-slim-trixie"
MB = 1_000_000


@dataclass(frozen=True)
class Budget:
    """The most that an image may add to its base, in MB, and what needs the most of it."""

    most: int
    reason: str


# A worker of Celery and its Redis client is 30 MB.
BUDGETS = {
    "scheduler": Budget(32, "Celery"),
    "payment": Budget(35, "Celery, requests"),
    "flower": Budget(40, "Celery, Flower, Tornado"),
    "email": Budget(41, "Celery, boto3 (6), Jinja, requests"),
    "image": Budget(55, "Celery, Pillow with its codecs (17), boto3 (6)"),
    "web": Budget(60, "Celery, SQLAlchemy (14), boto3 (6), psycopg (5), Pillow (3), Flask"),
    "report": Budget(63, "Celery, SQLAlchemy (14), boto3 (6), psycopg (5), Alembic, XlsxWriter"),
}

# Run with an image's own Python, which knows what is installed there. What has no record of files
# is not a distribution but a folder that was left behind.
INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted({
    (it.metadata["Name"], it.version, it.metadata.get("License-Expression") or "")
    for it in distributions()
})))
"""
SYSTEM = r"dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n'"


class NoImageError(Exception):
    """The engine does not have an image of this name."""


def name(service: str, version: str) -> str:
    """Return the name under which Compose and the chart know the image of a service."""
    return f"penstock-{service}:{version}"


def size_above_base(image: str) -> int:
    """Return the bytes that an image's own layers add; raises NoImageError."""
    return _size(image) - _size(BASE)


def _size(image: str) -> int:
    answer = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", image],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise NoImageError(f"there is no image {image}: build it with ./task images:build")
    return int(answer.stdout)


def packages(image: str) -> list[tuple[str, str, str]]:
    """Return name, version and licence of each Python distribution in an image."""
    said = _in(image, "python", "-c", INSTALLED)
    return [(name, version, licence) for name, version, licence in json.loads(said)]


def system_packages(image: str) -> list[tuple[str, str, str]]:
    """Return name, version and architecture of each Debian package in an image."""
    rows = [line.split() for line in _in(image, "sh", "-c", SYSTEM).splitlines()]
    return [(name, version, architecture) for name, version, architecture in rows]


def _in(image: str, *command: str) -> str:
    run = ["docker", "run", "--rm", "--network", "none", "--pull", "never", image, *command]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


def write_bill(image: str, folder: Path) -> Path:
    """Write an image's bill of materials into `folder`, as CycloneDX 1.6; return the file."""
    # For the one who builds images alone; the provider's image has no need of it.
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from packageurl import PackageURL

    title, _, version = image.rpartition(":")
    bom = Bom()
    bom.metadata.component = Component(
        name=title, version=version, type=ComponentType.CONTAINER, bom_ref=image
    )
    for package, release, licence in packages(image):
        url = PackageURL("pypi", name=package.lower().replace("_", "-"), version=release)
        bom.components.add(
            Component(
                name=package,
                version=release,
                purl=url,
                bom_ref=str(url),
                licenses=[LicenseExpression(licence)] if licence else [],
            )
        )
    for package, release, architecture in system_packages(image):
        url = PackageURL(
            "deb", "debian", package, release, {"arch": architecture, "distro": "debian-13"}
        )
        bom.components.add(Component(name=package, version=release, purl=url, bom_ref=str(url)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{title}-{version}.cdx.json"
    outputter = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    outputter.output_to_file(str(path), allow_overwrite=True, indent=2)
    return path
