"""Asking a provider over HTTP for something that is to happen once."""

from typing import Any

import requests
from pydantic import SecretStr
from urllib3.exceptions import NewConnectionError

from penstock.settings import without_password

# The request was not read to its end (408, RFC 9110), or not looked at for now (429, RFC 6585).
UNREAD = {408, 429}
# With an Idempotency-Key this says that an earlier try is still under way (IETF draft "The
# Idempotency-Key HTTP Header Field").
UNDER_WAY = 409


class ProviderUnavailableError(Exception):
    """The provider may grant the same request later; whether it has done so now is not known."""


class ProviderNotReachedError(ProviderUnavailableError):
    """The request did not get to the provider or was put off unread, so nothing has happened."""


class ProviderRefusedError(Exception):
    """The provider will not grant this request, however often it is made; nothing has happened."""


class ProviderUnclearError(Exception):
    """The answer neither grants nor refuses the request, and would not if it were made again."""


def post_once(
    url: str,
    body: dict[str, Any],
    *,
    idempotency_key: str,
    timeout: float,
    token: SecretStr | None = None,
) -> requests.Response:
    """Post `body` as JSON and return the answer, whose status is 2xx.

    The provider does what it is asked once for each `idempotency_key`, so a retry must give the
    same. `timeout` is seconds to connect and again between two bytes of the answer. Raises
    ProviderUnavailableError where a retry may help, and its subclass ProviderNotReachedError where
    nothing can have happened; ProviderRefusedError or ProviderUnclearError where none can help.
    """
    where = without_password(url)
    headers = {"Idempotency-Key": idempotency_key}
    if token:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    try:
        answer = requests.post(
            url,
            json=body,
            headers=headers,
            timeout=timeout,
            # A redirected POST becomes a GET, which asks for something else and may be granted.
            allow_redirects=False,
        )
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        kind = ProviderNotReachedError if _never_sent(error) else ProviderUnavailableError
        raise kind(f"no answer from {where}: {error}") from error
    if 200 <= answer.status_code < 300:
        return answer
    said = f"{where} answered {answer.status_code} {answer.reason}: {excerpt(answer)}"
    if answer.status_code in UNREAD:
        raise ProviderNotReachedError(said)
    if answer.status_code == UNDER_WAY or answer.status_code >= 500:
        raise ProviderUnavailableError(said)
    if answer.status_code >= 400:
        raise ProviderRefusedError(said)
    # A redirection, which may stand for a request that was granted: 303, and in practice 302.
    raise ProviderUnclearError(said)


def _never_sent(error: requests.RequestException) -> bool:
    """Return whether there was no connection that anything could have been sent by."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def excerpt(answer: requests.Response) -> str:
    """Return the beginning of what the provider wrote, as one line."""
    return " ".join(answer.text.split())[:200] or "(nothing)"
