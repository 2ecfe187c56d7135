from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from processes import environment, run
from pydantic import ValidationError
from redis import Redis
from sqlalchemy import make_url

from penstock.settings import PREFIX, Role, Settings, with_password, without_password

PASSWORD = "p/@:#?%[] +ß"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings out."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)


def test_a_setting_is_read_from_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SMTP_PORT", "2525")
    monkeypatch.setenv("PENSTOCK_MAIL_FROM", "The Dam <dam@example.com>")
    monkeypatch.setenv("PENSTOCK_API_KEY", "secret")
    settings = Settings()
    assert settings.smtp_port == 2525
    assert (settings.mail_from.name, settings.mail_from.email) == ("The Dam", "dam@example.com")
    assert settings.api_key
    assert settings.api_key.get_secret_value() == "secret"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", "")
    assert getattr(Settings(), name) == getattr(Settings.model_construct(), name)


def test_the_variables_of_other_programs_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PORT", "1")
    monkeypatch.setenv("PENSTOCK_OF_TOMORROW", "1")
    assert Settings() == Settings.model_construct()


def test_a_secret_does_not_show_where_settings_are_printed() -> None:
    settings = Settings(api_key="opensesame", redis_password="opensesame")
    assert "opensesame" not in f"{settings!r} {settings}"


def test_a_secret_may_stand_in_a_file_with_a_line_break_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(" open sesame \n")
    monkeypatch.setenv("PENSTOCK_API_KEY_FILE", f"{tmp_path}/key")
    settings = Settings()
    assert settings.api_key
    assert settings.api_key.get_secret_value() == " open sesame "


def test_an_empty_file_is_a_secret_that_is_not_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("\n")
    monkeypatch.setenv("PENSTOCK_SMTP_PASSWORD_FILE", f"{tmp_path}/password")
    assert Settings().smtp_password is None


def test_only_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SMTP_HOST_FILE", "/nowhere")
    assert Settings().smtp_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("content", "variables", "reason"),
    [
        (None, {}, "No such file or directory"),
        (b"\xff", {}, "it is not UTF-8"),
        (b"x", {"api_key": "y"}, "PENSTOCK_API_KEY is set as well; set one of them"),
    ],
)
def test_a_file_that_cannot_be_taken_ends_a_process_with_one_line(
    content: bytes | None, variables: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    env = environment(api_key_file=path, **variables)
    done = run("penstock", "db", "migrate", env=env)
    assert done.returncode == 2
    assert done.stderr.startswith("penstock: PENSTOCK_API_KEY_FILE: ")
    assert done.stderr.endswith(f"{reason}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["redis://h:1/0", "redis://other:old@h:1/0"])
def test_the_user_of_a_service_takes_the_place_of_the_urls(url: str) -> None:
    settings = Settings(broker_url=url, redis_user="web", redis_password=PASSWORD)
    arguments = Redis.from_url(settings.redis("broker")).connection_pool.connection_kwargs
    assert (arguments["username"], arguments["password"]) == ("web", PASSWORD)


@pytest.mark.parametrize("role", ["broker", "results", "cache", "files"])
def test_a_server_may_have_a_user_and_a_password_of_its_own(role: Role) -> None:
    setting = "files" if role == "files" else f"{role}_url"
    given: dict[str, Any] = {
        setting: "redis://theirs:1/0",
        f"{role}_user": "them",
        f"{role}_password": PASSWORD,
    }
    settings = Settings(redis_user="web", redis_password="shared", **given)
    theirs = Redis.from_url(settings.redis(role)).connection_pool.connection_kwargs
    assert (theirs["username"], theirs["password"]) == ("them", PASSWORD)
    other: Role = "results" if role == "broker" else "broker"
    ours = Redis.from_url(settings.redis(other)).connection_pool.connection_kwargs
    assert (ours["username"], ours["password"]) == ("web", "shared")


def test_a_password_of_a_servers_own_does_not_go_with_the_services_user() -> None:
    settings = Settings(broker_url="redis://h:1/0", redis_user="web", broker_password=PASSWORD)
    arguments = Redis.from_url(settings.redis("broker")).connection_pool.connection_kwargs
    assert (arguments.get("username", ""), arguments["password"]) == ("", PASSWORD)


@pytest.mark.parametrize("url", ["redis://h:1/0", "redis://user@h:1/0", "redis://user:old@h:1/0"])
def test_any_character_may_stand_in_the_password_of_redis(url: str) -> None:
    settings = Settings(broker_url=url, redis_password=PASSWORD)
    arguments = Redis.from_url(settings.redis("broker")).connection_pool.connection_kwargs
    assert (arguments["host"], arguments["port"], arguments["db"]) == ("h", 1, 0)
    assert arguments["password"] == PASSWORD
    assert arguments.get("username", "") == ("user" if "user" in url else "")


def test_any_character_may_stand_in_the_password_of_the_database() -> None:
    url = "postgresql://penstock@h:1/name?sslmode=require"
    parsed = make_url(Settings(database_url=url, database_password=PASSWORD).database())
    assert (parsed.username, parsed.password) == ("penstock", PASSWORD)
    assert (parsed.host, parsed.port, parsed.database) == ("h", 1, "name")
    assert parsed.query == {"sslmode": "require"}


@pytest.mark.parametrize("password", [None, ""])
def test_without_a_password_the_address_stays_as_it_is(password: str | None) -> None:
    for url in ("redis://:old@h:1/0", "redis://h:1/0"):
        settings = Settings(broker_url=url, redis_password=password)
        assert settings.redis("broker") == url


@pytest.mark.parametrize(
    ("url", "verified"),
    [
        ("rediss://h:1/0", "rediss://h:1/0?ssl_cert_reqs=required"),
        (
            "rediss://h:1/0?ssl_ca_certs=/ca.pem",
            "rediss://h:1/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required",
        ),
        ("rediss://h:1/0?ssl_cert_reqs=none", "rediss://h:1/0?ssl_cert_reqs=none"),
        ("redis://h:1/0", "redis://h:1/0"),
    ],
)
def test_a_certificate_is_verified_unless_the_setting_says_otherwise(
    url: str, verified: str
) -> None:
    settings = Settings(broker_url=url, results_url=url, cache_url=url, files=url)
    roles: tuple[Role, ...] = ("broker", "results", "cache", "files")
    assert {settings.redis(role) for role in roles} == {verified}


def test_an_address_in_a_log_line_names_neither_user_nor_password() -> None:
    for url in ("redis://h:1/0", "sqlite:////a/b@c.db"):
        assert without_password(url) == url
    given = with_password("redis://user@h:1/0", Settings(redis_password=PASSWORD).redis_password)
    assert unquote(urlsplit(given).password or "") == PASSWORD
    assert without_password(given) == "redis://h:1/0"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "http://127.0.0.1"),
        ("SMTP_PORT", "abc"),
        ("SMTP_PORT", "70000"),
        ("WAIT", "-1"),
        ("CACHE", "disk"),
        ("SMTP_SECURITY", "ssl"),
        ("PAYMENT_URL", "127.0.0.1:8090"),
        ("MAIL_FROM", "nobody"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_malformed_value_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [(name.lower(),)]


def test_malformed_values_end_a_command_with_one_line_that_names_them_all() -> None:
    env = environment(smtp_port="abc", broker_url="http://127.0.0.1")
    ended = run("penstock", "db", "migrate", env=env)
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert "PENSTOCK_SMTP_PORT: " in line
    assert "PENSTOCK_BROKER_URL: must begin with redis://" in line


@pytest.mark.parametrize(
    "place",
    [
        "var/files",
        "/mnt/files",
        "s3://bucket",
        "s3://my.bucket/a/prefix",
        "redis://:secret@files:6379/0",
        "rediss://files",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_files_are_in_a_folder_in_s3_or_in_redis(place: str) -> None:
    assert Settings(files=place).files == place


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("gs://bucket", "must be a folder, s3://bucket, or begin with redis://"),
        ("https://bucket.s3.amazonaws.com", "must be a folder"),
        ("s3://", "must name a bucket, such as s3://bucket"),
        ("s3:///prefix", "must name a bucket"),
        ("s3://key:secret@bucket", "must name a bucket"),
    ],
)
def test_another_place_for_files_is_refused(place: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings(files=place)


@pytest.mark.parametrize("one", ["s3_access_key_id", "s3_secret_access_key"])
def test_a_key_to_s3_goes_with_its_id(one: str) -> None:
    given: dict[str, Any] = {one: "x"}
    with pytest.raises(ValidationError, match="PENSTOCK_S3_ACCESS_KEY_ID: set both or neither"):
        Settings(**given)


def test_the_files_have_the_password_of_the_other_roles() -> None:
    settings = Settings(files="redis://files:6379/0", redis_user="web", redis_password="secret")
    assert settings.redis("files") == "redis://web:secret@files:6379/0"
    assert settings.redis_url("files") == "redis://files:6379/0"
