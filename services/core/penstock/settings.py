"""Every setting of every service, read from the environment as `PENSTOCK_<NAME>`.

A service reads what it uses and ignores the rest, so one environment can serve them all. A secret
may stand in a file instead, which `PENSTOCK_<NAME>_FILE` names: what is in the environment is shown
to whoever may inspect the container.
"""

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NameEmail,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "PENSTOCK_"

Role = Literal["broker", "results", "cache", "files"]


def _is_redis_url(url: str) -> str:
    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


def _is_http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    return url.rstrip("/")


def _is_place(place: str) -> str:
    parts = urlsplit(place)
    if "://" in place and parts.scheme not in {"s3", "redis", "rediss", "unix"}:
        raise ValueError(
            "must be a folder, s3://bucket, or begin with redis://, rediss:// or unix://"
        )
    if parts.scheme == "s3" and not re.fullmatch(r"[\w.-]+", parts.netloc):
        raise ValueError("must name a bucket, such as s3://bucket or s3://bucket/prefix")
    return place


RedisUrl = Annotated[str, AfterValidator(_is_redis_url)]
HttpUrl = Annotated[str, AfterValidator(_is_http_url)]
Place = Annotated[str, BeforeValidator(str), AfterValidator(_is_place)]


def with_password(url: str, password: SecretStr | None, user: str | None = None) -> str:
    """Return `url` with `password` in it, quoted, so that any character may stand in a password.

    `user` takes the place of the URL's own.
    """
    if password is None or not password.get_secret_value():
        return url
    parts = urlsplit(url)
    user = quote(user, safe="") if user else parts.username or ""
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{user}:{quote(password.get_secret_value(), safe='')}@{host}"
    return urlunsplit(parts._replace(netloc=netloc))


def verifying(url: str) -> str:
    """Return `url` so that the server's certificate is verified, unless it says `ssl_cert_reqs`.

    Kombu 5.7.0 verifies none by default, unlike redis-py.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(parts.query):
        return url
    query = "&".join(filter(None, (parts.query, "ssl_cert_reqs=required")))
    return urlunsplit(parts._replace(query=query))


def without_password(url: str) -> str:
    """Return `url` fit for a log line: the same without user and password."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return url.replace(user + at, "", 1) if at else url


class SecretFiles(PydanticBaseSettingsSource):
    """The secrets that stand in files, as Compose and Kubernetes mount them.

    A line break at the end is an editor's and no part of the secret; an empty file is a secret that
    is not set.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what the file of a setting holds; raises ValueError that names the variable."""
        variable = f"{PREFIX}{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if field.annotation != (SecretStr | None) or not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise ValueError(f"{variable}_FILE: {variable} is set as well; set one of them")
        try:
            text = Path(path).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ValueError(f"{variable}_FILE: {path} cannot be read: {reason}") from None
        return text or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the secrets that stand in files."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """The settings. Times are in seconds, sizes in bytes, unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, and the files that it names."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    # Redis has three roles, and a fourth where it keeps files; in production each is a server
    # of its own.
    broker_url: RedisUrl = "redis://127.0.0.1:6379/0"
    results_url: RedisUrl = "redis://127.0.0.1:6379/1"
    cache_url: RedisUrl = "redis://127.0.0.1:6379/2"
    # As whom a process comes to them: each service may have a user of its own, which may do there
    # what the service does. Without one it is the URL's user, or the server's default user.
    redis_user: str | None = None
    redis_password: SecretStr | None = None
    # Of a server that has a user or a password of its own, such as one that somebody else runs.
    broker_user: str | None = None
    broker_password: SecretStr | None = None
    results_user: str | None = None
    results_password: SecretStr | None = None
    cache_user: str | None = None
    cache_password: SecretStr | None = None
    files_user: str | None = None
    files_password: SecretStr | None = None
    # What a process does at start where a server does not suit its role: end, say so, or nothing.
    role_guard: Literal["enforce", "warn", "off"] = "enforce"

    database_url: str = "sqlite:///var/penstock.db"
    database_password: SecretStr | None = None

    # Where uploads and outcomes are kept, shared by web and workers: a folder, s3://bucket/prefix,
    # or the URL of a Redis server of the role files.
    files: Place = "var/files"
    # Of S3; without an endpoint it is Amazon's, and without keys they are looked for as its own
    # tools do: in the environment, in the role of the pod or the machine.
    s3_endpoint: HttpUrl | None = None
    s3_region: str | None = None
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = Field(None, validate_default=True)
    files_ttl: Annotated[int, Field(ge=60)] = 7 * 86400
    records_ttl: Annotated[int, Field(ge=60)] = 7 * 86400
    # Dead letters are dropped when they are older than this, and the oldest when there are more.
    dead_ttl: Annotated[int, Field(ge=60)] = 30 * 86400
    dead_max: Annotated[int, Field(ge=1)] = 100_000

    # At start, how long to go on trying a Redis or a database that does not answer.
    wait: Annotated[float, Field(ge=0)] = 0
    # How long a worker that was told to stop lets its running jobs go on; what has not ended then
    # goes back to its queue. By default the catalogue's grace, less a margin to do so in.
    grace: Annotated[float, Field(ge=0)] | None = None
    # Multiplies every retry delay: 1 in production, nearly 0 in a demo or a test.
    retry_scale: Annotated[float, Field(ge=0)] = 1

    web_bind: str = "127.0.0.1:8000"
    api_key: SecretStr | None = None
    # What may be done only with this key instead; without it the API key is enough for everything.
    operator_key: SecretStr | None = None
    upload_max: Annotated[int, Field(ge=1)] = 10 * 1024 * 1024
    image_max_pixels: Annotated[int, Field(ge=1)] = 50_000_000

    cache: Literal["redis", "simple", "memcached", "filesystem", "null"] = "redis"
    cache_ttl: Annotated[int, Field(ge=1)] = 300
    # What each process keeps for itself of what was read lately: how much, and what goes when it is
    # full. Of redis and simple only.
    cache_local_size: Annotated[int, Field(ge=0)] = 32 * 1024 * 1024
    cache_local_policy: Literal["lru", "lfu", "random"] = "lfu"
    cache_memcached: str = "127.0.0.1:11211"
    cache_folder: Path = Path("var/cache")

    smtp_host: str = "127.0.0.1"
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 1025
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_timeout: Annotated[float, Field(gt=0)] = 20
    mail_from: NameEmail = NameEmail("Penstock", "penstock@example.com")

    payment_url: HttpUrl = "http://127.0.0.1:8090"
    payment_key: SecretStr | None = None
    # Where notifications are posted; without it they go out as mail.
    notification_url: HttpUrl | None = None
    http_timeout: Annotated[float, Field(gt=0)] = 10

    flower_bind: str = "127.0.0.1:5555"
    flower_sign_in: SecretStr | None = None
    # Whether those who sign in to Flower may stop and change workers, or only look.
    flower_control: bool = False
    # The path that Flower is under where a proxy has it beside others, such as /flower.
    flower_prefix: Annotated[str, Field(pattern=r"^(/[\w-]+)*$")] = ""
    # Where the scheduler and Flower keep what they must remember over a restart.
    state: Path = Path("var/state")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @field_validator("s3_secret_access_key")
    @classmethod
    def _is_with_its_id(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if bool(secret and secret.get_secret_value()) != bool(info.data.get("s3_access_key_id")):
            raise ValueError(f"goes together with {PREFIX}S3_ACCESS_KEY_ID: set both or neither")
        return secret

    @property
    def files_in_redis(self) -> bool:
        """Whether the files are kept in a Redis server."""
        return urlsplit(self.files).scheme in {"redis", "rediss", "unix"}

    def redis_url(self, role: Role) -> str:
        """Return the URL of the Redis server of `role` as it was set."""
        return str(self.files if role == "files" else getattr(self, f"{role}_url"))

    def redis(self, role: Role) -> str:
        """Return the URL of the Redis server of `role`, with the password in it.

        Over TLS its certificate is verified, unless the setting says otherwise.
        """
        url = verifying(self.redis_url(role))
        own: SecretStr | None = getattr(self, f"{role}_password")
        if own is not None and own.get_secret_value():
            return with_password(url, own, getattr(self, f"{role}_user"))
        return with_password(url, self.redis_password, self.redis_user)

    def database(self) -> str:
        """Return the database's SQLAlchemy URL, with the password in it."""
        return with_password(self.database_url, self.database_password)


@cache
def get_settings() -> Settings:
    """Return the settings of this process; ends it with exit code 2 where one is malformed."""
    try:
        return Settings()
    except ValidationError as error:
        problems = (
            f"{PREFIX}{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        stop("; ".join(problems))
    except ValueError as error:
        # A ValidationError is one too; this is of a file that holds a secret.
        stop(str(error))


def stop(reason: str) -> NoReturn:
    """End the process with exit code 2 and one line that says why."""
    print(f"penstock: {reason}", file=sys.stderr, flush=True)
    sys.exit(2)
