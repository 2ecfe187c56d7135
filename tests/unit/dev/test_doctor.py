"""What the doctor says of settings, before anything starts."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from penstock_dev import containers, doctor, secret_files


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An .env file that is in order, with its secrets."""
    path = tmp_path / ".env"
    secret_files.write(tmp_path / "secrets")
    path.write_text(f"PENSTOCK_SECRETS={tmp_path}/secrets\n")
    monkeypatch.setenv("COMPOSE_ENV_FILES", str(path))
    return path


def said(path: Path, line: str) -> list[str]:
    with path.open("a") as stream:
        stream.write(f"{line}\n")
    found = [*doctor._keys(), *doctor._values(), *doctor._secrets()]
    return [finding.text for finding in found]


def test_settings_that_are_in_order_are_passed_over(env_file: Path) -> None:
    assert said(env_file, "") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("PENSTOCK_SMTP_PORT=abc", "should be a valid integer"),
        ("PENSTOCK_PAYMENT_URL=example.com", "must be an http:// or https:// address"),
        ("PENSTOCK_CACHE=disk", "should be 'redis'"),
        ("PENSTOCK_EMAIL_MEMORY=lots", "must be 64m or more"),
        ("PENSTOCK_EMAIL_MEMORY=1m", "must be 64m or more"),
        ("PENSTOCK_CPUS=10000", "must be a number above 0 and not above"),
        ("PENSTOCK_PIDS=none", "must be a whole number above 0"),
        ("WEB_CONCURRENCY=0", "must be a whole number above 0"),
        ("COMPOSE_FILE=deploy/compose.yaml:nothing.yaml", "does not exist"),
        ("PENSTOCK_DOMAIN=https://example.com/", "must be a name such as www.example.com"),
        ("PENSTOCK_SMPT_HOST=x", "is read by nothing"),
    ],
)
def test_a_value_that_is_wrong_is_one_sentence_that_names_its_key(
    env_file: Path, line: str, reason: str
) -> None:
    [text] = said(env_file, line)
    assert text.startswith(line.partition("=")[0])
    assert reason in text


def test_a_list_of_files_in_the_shell_is_an_error_since_compose_then_passes_over_the_env_file(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPOSE_ENV_FILES")
    monkeypatch.setattr(containers, "ROOT", env_file.parent)
    (env_file.parent / "compose.yaml").touch()
    assert said(env_file, "") == []
    monkeypatch.setenv("COMPOSE_FILE", "compose.yaml")
    [text] = said(env_file, "")
    assert text.startswith("COMPOSE_FILE is set in the shell")


def test_a_proxy_without_a_name_for_the_server_is_told_which_key_is_missing(env_file: Path) -> None:
    [text] = said(env_file, "COMPOSE_FILE=deploy/compose.yaml:deploy/compose.tls.yaml")
    assert text.startswith("PENSTOCK_DOMAIN is missing in .env")


def test_a_missing_file_is_told_with_the_command_that_writes_it(env_file: Path) -> None:
    env_file.unlink()
    [finding] = doctor._keys()
    assert finding.text == f"{env_file} does not exist: run ./task env"


@pytest.mark.parametrize("name", ["api_key", "broker.acl"])
def test_a_missing_secret_is_named(env_file: Path, name: str) -> None:
    (env_file.parent / "secrets" / name).unlink()
    [finding] = doctor._secrets()
    assert name in finding.text
    assert "run ./task env" in finding.text


def test_a_file_that_does_not_fit_the_passwords_that_it_is_made_of_is_named(env_file: Path) -> None:
    path = env_file.parent / "secrets" / "flower_password"
    path.chmod(0o644)
    path.write_text("another")
    [finding] = doctor._secrets()
    assert "flower_sign_in does not fit" in finding.text
    assert "run ./task env" in finding.text


def test_a_folder_of_secrets_that_others_can_enter_is_a_warning(env_file: Path) -> None:
    (env_file.parent / "secrets").chmod(0o755)
    [finding] = doctor._secrets()
    assert finding.level == "warning"
    assert "chmod 700" in finding.text


def test_a_port_in_use_is_told_with_the_key_that_sets_another(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "are_up", lambda: False)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        env_file.write_text(f"PENSTOCK_WEB_PORT={port}\n")
        [finding] = doctor._ports()
    assert (
        finding.text == f"the port {port} is in use: set PENSTOCK_WEB_PORT in .env to another one"
    )


def test_a_value_that_compose_cannot_read_is_told_once(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_engine", lambda: iter(()))
    with env_file.open("a") as stream:
        stream.write("PENSTOCK_CPUS=many\n")
    errors = [found.text for found in doctor.before_start() if found.level == "error"]
    assert [text.split()[0] for text in errors] == ["PENSTOCK_CPUS"]


@pytest.mark.parametrize("value", ["web", "0", "65536", "-1", "80.5"])
def test_what_is_no_port_is_told(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(containers, "are_up", lambda: False)
    env_file.write_text(f"PENSTOCK_WEB_PORT={value}\n")
    [finding] = doctor._ports()
    assert finding.text == (
        f"PENSTOCK_WEB_PORT is {value!r} in .env: it must be a port, from 1 to 65535"
    )


def test_a_server_that_is_somewhere_else_is_not_looked_for(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def compose(*words: str) -> str:
        return "web\ncache\n"

    def redis(role: str, *words: str) -> str:
        asked.append(role)
        raise containers.ContainersError("it is down")

    monkeypatch.setattr(containers, "compose", compose)
    monkeypatch.setattr(containers, "redis", redis)
    [finding] = doctor._roles()
    assert finding.text == "the cache does not answer: it is down"
    assert asked == ["cache"]
