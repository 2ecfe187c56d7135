"""What .env.example says, and what the Compose files read."""

import re
from pathlib import Path

import pytest
import yaml

from penstock.settings import Settings

ROOT = Path(__file__).parents[3]
EXAMPLE = (ROOT / "deploy" / ".env.example").read_text()
FILES = [ROOT / "compose.yaml", ROOT / "deploy/compose.yaml", ROOT / "deploy/compose.dev.yaml"]
TEXT = "\n".join(path.read_text() for path in FILES)
DOCUMENTED = re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)


def test_every_variable_that_compose_reads_is_documented_and_no_other() -> None:
    interpolated = set(re.findall(r"\$\{(\w+)", TEXT))
    passed_on = {
        name
        for path in FILES
        for service in yaml.safe_load(path.read_text()).get("services", {}).values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }
    assert {name for name, _ in DOCUMENTED} == interpolated | passed_on


def test_compose_demands_every_secret_and_says_how_to_get_it() -> None:
    secrets = {name for name, value in DOCUMENTED if value == "<random>"}
    demanded = re.findall(r"\$\{(\w+):\?([^}]*)}", TEXT)
    assert {name for name, _ in demanded} == secrets
    assert {message for _, message in demanded} == {"run ./task env first"}


@pytest.mark.parametrize(
    "setting",
    [
        "cache",
        "cache_ttl",
        "files_ttl",
        "image_max_pixels",
        "log_level",
        "mail_from",
        "records_ttl",
        "retry_scale",
        "upload_max",
    ],
)
def test_a_default_is_shown_as_it_is(setting: str) -> None:
    shown = dict(DOCUMENTED)[f"PENSTOCK_{setting.upper()}"]
    assert shown == str(Settings.model_fields[setting].default)
