import logging
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from requests import Response
from servers import Provider, deaf_port

from penstock import log
from penstock.http import (
    ProviderNotReachedError,
    ProviderRefusedError,
    ProviderUnavailableError,
    ProviderUnclearError,
    post_once,
)
from penstock.settings import Settings

TOKEN = SecretStr("hidden")


def post(provider: Provider, timeout: float = 5, token: SecretStr | None = None) -> Response:
    return post_once(
        f"{provider.url}/things",
        {"name": "Söhne"},
        idempotency_key="job-1",
        timeout=timeout,
        token=token,
    )


def test_a_request_carries_the_body_the_key_and_the_token(provider: Provider) -> None:
    assert post(provider, token=TOKEN).json() == {"id": "ch_1"}
    (request,) = provider.requests
    assert request.path == "/things"
    assert request.body == {"name": "Söhne"}
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "job-1"
    assert request.headers["Authorization"] == "Bearer hidden"


def test_without_a_token_there_is_no_authorization(provider: Provider) -> None:
    post(provider)
    assert provider.requests[0].headers["Authorization"] is None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_an_answer_that_may_be_another_later_is_transient(provider: Provider, status: int) -> None:
    provider.answers = [(status, {"error": "not now"})]
    with pytest.raises(ProviderUnavailableError, match=rf"answered {status} .*not now"):
        post(provider)


@pytest.mark.parametrize("status", [408, 429])
def test_a_request_that_was_put_off_unread_has_had_no_effect(
    provider: Provider, status: int
) -> None:
    provider.answers = [(status, {})]
    with pytest.raises(ProviderNotReachedError):
        post(provider)


@pytest.mark.parametrize("answer", [(409, {}), (500, {}), (503, {}), "drop", "hang"])
def test_whether_a_provider_that_fails_has_acted_is_not_known(
    provider: Provider, answer: tuple[int, Any] | str
) -> None:
    provider.answers = [answer]
    with pytest.raises(ProviderUnavailableError) as caught:
        post(provider, timeout=0.2)
    assert not isinstance(caught.value, ProviderNotReachedError)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_any_other_refusal_is_permanent_and_gives_the_reason(
    provider: Provider, status: int
) -> None:
    provider.answers = [(status, {"error": "never"})]
    with pytest.raises(ProviderRefusedError, match=rf"answered {status} .*never"):
        post(provider)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(provider: Provider, status: int) -> None:
    provider.headers = {"Location": f"{provider.url}/elsewhere"}
    provider.answers = [(status, {})]
    with pytest.raises(ProviderUnclearError, match=f"answered {status}"):
        post(provider)
    assert [request.path for request in provider.requests] == ["/things"]


def test_a_dropped_connection_is_transient(provider: Provider) -> None:
    provider.answers = ["drop"]
    with pytest.raises(ProviderUnavailableError, match="no answer"):
        post(provider)


def test_half_an_answer_is_transient(provider: Provider) -> None:
    provider.headers = {"Content-Length": "1000"}
    with pytest.raises(ProviderUnavailableError, match="no answer"):
        post(provider)


def test_an_answer_that_does_not_come_in_time_is_transient(provider: Provider) -> None:
    provider.answers = ["hang"]
    with pytest.raises(ProviderUnavailableError, match="no answer"):
        post(provider, timeout=0.1)


def test_a_provider_that_is_not_there_is_transient_and_named() -> None:
    with Provider() as provider:
        url = provider.url
    with pytest.raises(ProviderNotReachedError, match=f"no answer from {url}/things"):
        post(provider)


def test_a_provider_that_drops_the_request_to_connect_was_not_reached() -> None:
    with deaf_port() as port, pytest.raises(ProviderNotReachedError):
        post_once(f"http://127.0.0.1:{port}/", {}, idempotency_key="job-1", timeout=0.2)


def test_a_password_in_the_address_is_in_no_message(provider: Provider) -> None:
    provider.answers = [(400, {})]
    url = provider.url.replace("http://", "http://user:hidden@")
    with pytest.raises(ProviderRefusedError) as caught:
        post_once(url, {}, idempotency_key="job-1", timeout=5)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_token_is_in_no_traceback_that_is_logged(
    provider: Provider,
    log_format: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    log.configure(Settings(log_format=log_format))
    provider.answers = [(402, {"error": "declined"})]
    try:
        post(provider, token=TOKEN)
    except ProviderRefusedError:
        root.exception("the job failed")
    finally:
        structlog.reset_defaults()
    lines = capsys.readouterr().err
    assert "ProviderRefusedError" in lines
    assert "declined" in lines
    assert "hidden" not in lines
