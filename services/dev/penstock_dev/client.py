"""What the demo uses of a running stack: the HTTP API, the caught mail, the provider's ledger."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol

import requests


class RequestFailedError(Exception):
    """The API did not answer as it should; the text says what it said instead."""


class Api:
    """The HTTP API at `base`, used with `key`."""

    def __init__(self, base: str, key: str) -> None:
        self.base = base.rstrip("/")
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str) -> requests.Response:
        """Return the answer to a GET, which must be 2xx."""
        return self._checked(self.session.get(self.base + path, timeout=30))

    def post(self, path: str, **body: Any) -> requests.Response:
        """Return the answer to a POST, which must be 2xx."""
        return self._checked(self.session.post(self.base + path, timeout=30, **body))

    @staticmethod
    def _checked(answer: requests.Response) -> requests.Response:
        if not answer.ok:
            raise RequestFailedError(
                f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}"
            )
        return answer


class Mailbox(Protocol):
    """Where caught mail can be read."""

    def messages(self) -> list[bytes]:
        """Return every message that has arrived, as it was sent."""


class MailFolder:
    """The embedded mail catcher's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def messages(self) -> list[bytes]:
        """Return every message that has arrived, as it was sent."""
        return [path.read_bytes() for path in sorted(self.folder.glob("*.eml"))]


class MailDev:
    """MailDev's HTTP API."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")

    def messages(self) -> list[bytes]:
        """Return every message that has arrived, as it was sent."""
        listed = requests.get(f"{self.base}/email", timeout=10).json()
        return [
            requests.get(f"{self.base}/email/{mail['id']}/source", timeout=10).content
            for mail in listed
        ]


def mail_with(mailbox: Mailbox, subject: str) -> list[tuple[bytes, EmailMessage]]:
    """Return the messages with that subject, raw and parsed."""
    found = []
    for raw in mailbox.messages():
        message = message_from_bytes(raw, policy=policy.default)
        if message["Subject"] == subject:
            found.append((raw, message))
    return found
