"""Asking a provider over HTTP for something that is to happen once."""

from typing import Any

import requests
from pydantic import SecretStr

from penstock.settings import without_password

# Answers that may be others later, besides the server errors (5xx): 408 and 409 (RFC 9110) and 429
# (RFC 6585). With an Idempotency-Key, 409 says that an earlier try is still under way (IETF draft
# "The Idempotency-Key HTTP Header Field").
TRANSIENT = {408, 409, 429}


class ProviderUnavailableError(Exception):
    """The provider does not answer for now; the same request may be granted later."""


class ProviderRefusedError(Exception):
    """The provider will not grant this request, however often it is made."""


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
    ProviderUnavailableError where a retry may help and ProviderRefusedError where it cannot.
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
        raise ProviderUnavailableError(f"no answer from {where}: {error}") from error
    if 200 <= answer.status_code < 300:
        return answer
    said = f"{where} answered {answer.status_code} {answer.reason}: {excerpt(answer)}"
    if answer.status_code in TRANSIENT or answer.status_code >= 500:
        raise ProviderUnavailableError(said)
    raise ProviderRefusedError(said)


def excerpt(answer: requests.Response) -> str:
    """Return the beginning of what the provider wrote, as one line."""
    return " ".join(answer.text.split())[:200] or "(nothing)"
