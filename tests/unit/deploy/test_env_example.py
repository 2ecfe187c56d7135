"""What .env.example says, and what the Compose files read."""

import re
from pathlib import Path

import compose_files
import pytest
from pydantic import SecretStr

from penstock.settings import Settings
from penstock_dev import secret_files

ROOT = Path(__file__).parents[3]
EXAMPLE = (ROOT / "deploy" / ".env.example").read_text()
FILES = [ROOT / "compose.yaml", *sorted((ROOT / "deploy").glob("compose*.yaml"))]
TEXT = "\n".join(path.read_text() for path in FILES)
DOCUMENTED = re.findall(r"^#?([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE)


def test_every_variable_that_compose_reads_is_documented_and_no_other() -> None:
    interpolated = set(re.findall(r"\$\{(\w+)", TEXT))
    passed_on = {
        name
        for path in FILES
        for service in compose_files.read(str(path)).get("services", {}).values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }
    # Compose reads that one by itself.
    assert {name for name, _ in DOCUMENTED} - {"COMPOSE_FILE"} == interpolated | passed_on


def test_no_secret_is_a_variable_and_compose_says_how_to_get_the_files() -> None:
    secret = {
        f"PENSTOCK_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if field.annotation == (SecretStr | None)
    }
    assert not secret & {name for name, _ in DOCUMENTED}
    assert dict(re.findall(r"\$\{(\w+):\?([^}]*)}", TEXT)) == {
        "PENSTOCK_SECRETS": "run ./task env first",
        "PENSTOCK_DOMAIN": "set it in .env to the name of this server",
    }


def test_each_file_that_compose_mounts_as_a_secret_is_written() -> None:
    mounted = {
        secret["file"].rpartition("/")[2]
        for path in FILES
        for secret in compose_files.read(str(path)).get("secrets", {}).values()
    }
    written = {*secret_files.OURS, *secret_files.THEIRS, *secret_files.MADE}
    # Flower and the exporters read theirs as a part of another file; here no Redis keeps files.
    assert mounted == written - {"flower_password", "redis_exporter", "files.acl"}


@pytest.mark.parametrize(
    "setting",
    [
        "cache",
        "cache_local_policy",
        "cache_local_size",
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
