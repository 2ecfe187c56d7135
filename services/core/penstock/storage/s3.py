"""Files in a bucket of S3, or of a server that speaks its protocol."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from penstock.storage.files import (
    KEY,
    Files,
    Reader,
    Stat,
    StorageError,
    StorageFullError,
    checked,
    spooled,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.settings import Settings

# Bytes of a part, of which one is in memory at a time; S3 takes 10,000 of at least 5 MB.
PART = 8 * 1024 * 1024
TRANSFER = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)
# How long a file may take to be uploaded. S3 keeps for ever what came of one that was cut off.
UPLOAD_LIMIT = timedelta(days=1)
# Objects that S3 deletes in one request.
MOST = 1000
MISSING = {"NoSuchKey", "NotFound", "404"}
# What servers of others say; S3 itself is never full.
FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"}


class Bucket(Files):
    """The files below `prefix` in a bucket; the prefix is empty or ends with a slash."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Return the place that `settings` name."""
        secret = settings.s3_secret_access_key
        client = _client(
            settings.s3_endpoint,
            settings.s3_region,
            settings.s3_access_key_id,
            secret.get_secret_value() if secret else None,
        )
        url = urlsplit(settings.files)
        prefix = url.path.strip("/")
        return cls(client, url.netloc, f"{prefix}/" if prefix else "")

    def ping(self) -> None:
        """Return when the bucket is there and may be read."""
        with _errors_told():
            self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """Open `key` for writing; the file appears under it whole, or not at all."""
        name = self._name(key)
        with spooled() as stream:
            yield stream
            stream.seek(0)
            with _errors_told():
                self.client.upload_fileobj(stream, self.bucket, name, Config=TRANSFER)

    def open(self, key: str) -> tuple[Stat, IO[bytes]]:
        """Return what is known of the file, and a stream of it that can seek; close that."""
        found = self.stat(key)
        stream = _Stream(self.client, {"Bucket": self.bucket, "Key": self._name(key)}, found)
        return found, cast("IO[bytes]", stream)

    def stat(self, key: str) -> Stat:
        """Return what is known of the file."""
        with _errors_told():
            said = self.client.head_object(Bucket=self.bucket, Key=self._name(key))
        return Stat(said["ContentLength"], said["LastModified"].timestamp(), said["ETag"])

    def remove(self, folder: str) -> None:
        """Remove every file in `folder`."""
        with _errors_told():
            self._delete(self._listed(f"{folder}/"))

    def expire(self, ttl: float) -> int:
        """Remove the folders in which nothing changed for `ttl` seconds; return how many.

        With them goes what uploads that were cut off have left.
        """
        removed = 0
        before = datetime.now(UTC) - timedelta(seconds=ttl)
        with _errors_told():
            for _, files in groupby(self._listed(), lambda each: _folder(each["Key"])):
                found = list(files)
                if max(each["LastModified"] for each in found) < before:
                    self._delete(found)
                    removed += 1
            self._abort_uploads()
        return removed

    def _name(self, key: str) -> str:
        return self.prefix + checked(key)

    def _listed(self, begin: str = "") -> Iterator[dict[str, Any]]:
        """Yield the files whose keys begin so, in the order of their keys; nothing but our own."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + begin
        )
        for page in pages:
            for each in page.get("Contents", ()):
                if KEY.fullmatch(each["Key"].removeprefix(self.prefix)):
                    yield each

    def _delete(self, files: Iterable[dict[str, Any]]) -> None:
        names = [{"Key": each["Key"]} for each in files]
        for begin in range(0, len(names), MOST):
            some = {"Objects": names[begin : begin + MOST], "Quiet": True}
            said = self.client.delete_objects(Bucket=self.bucket, Delete=some)
            for error in said.get("Errors", ()):
                raise StorageError(f"S3 did not delete {error['Key']}: {error['Message']}")

    def _abort_uploads(self) -> None:
        before = datetime.now(UTC) - UPLOAD_LIMIT
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        for page in pages:
            for each in page.get("Uploads", ()):
                if each["Initiated"] < before:
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket, Key=each["Key"], UploadId=each["UploadId"]
                    )


class _Stream(Reader):
    """An object, asked for from where it is read on."""

    def __init__(self, client: Any, where: dict[str, str], found: Stat) -> None:
        super().__init__(found.size)
        self._client = client
        # Not another one that has taken its place meanwhile.
        self._where = {**where, "IfMatch": found.version}
        self._body: Any = None
        self._body_at = 0

    def fetch(self, at: int, most: int) -> bytes:
        with _errors_told():
            if self._body is None or self._body_at != at:
                self._close_body()
                said = self._client.get_object(**self._where, Range=f"bytes={at}-")
                self._body, self._body_at = said["Body"], at
            data: bytes = self._body.read(most)
        if not data:
            raise StorageError(f"S3 ended before the end of {self._where['Key']}")
        self._body_at += len(data)
        return data

    def close(self) -> None:
        self._close_body()
        super().close()

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


@cache
def _client(endpoint: str | None, region: str | None, key_id: str | None, key: str | None) -> Any:
    # Servers of others may not know the checksums that S3 has had since 2024.
    checksums = "when_required" if endpoint else "when_supported"
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=key_id,
        aws_secret_access_key=key,
        config=Config(
            connect_timeout=2,
            read_timeout=10,
            retries={"mode": "standard", "total_max_attempts": 3},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )


# Two processes must not write to one connection.
os.register_at_fork(after_in_child=_client.cache_clear)


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in MISSING:
            raise FileNotFoundError(f"no file is kept there: {error}") from error
        if status == 507 or code in FULL:
            raise StorageFullError(f"S3 is full: {error}") from error
        raise StorageError(f"S3: {error}") from error
    except BotoCoreError as error:
        raise StorageError(f"S3: {error}") from error
