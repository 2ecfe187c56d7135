from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from celery.exceptions import Retry
from pydantic import ValidationError
from redis import Redis
from servers import Provider
from werkzeug.serving import make_server

from penstock.effects import UncertainEffectError
from penstock.http import ProviderRefusedError, ProviderUnavailableError
from penstock.records import Records, State
from penstock.settings import Settings
from penstock.stack import make_app
from penstock_dev.provider import Ledger, create_app
from penstock_payment.tasks import process

PAYMENT = {"order": "A-1", "amount": "19.90", "currency": "EUR"}


@pytest.fixture
def settings(redis_url: str, provider: Provider) -> Settings:
    return settings_for(redis_url, payment_url=provider.url)


def settings_for(redis_url: str, **more: Any) -> Settings:
    return Settings(broker_url=f"{redis_url}/0", results_url=f"{redis_url}/1", **more)


def run(job: dict[str, Any], settings: Settings, **options: Any) -> Any:
    """Do the job here and now, with its retries one right after the other."""
    app = make_app(settings)
    return app.tasks[process.name].apply(kwargs={"job": job}, task_id="job-1", **options)


def test_the_handler_has_the_name_of_the_catalogue() -> None:
    assert process.name == "payment.process"


def test_a_charge_is_asked_for_under_the_jobs_id_and_the_record_names_it(
    settings: Settings, provider: Provider
) -> None:
    assert run(PAYMENT, settings).state == "SUCCESS"
    (request,) = provider.requests
    assert request.path == "/charges"
    assert request.body == {"amount": 1990, "currency": "EUR", "reference": "A-1"}
    assert request.headers["Idempotency-Key"] == "job-1"
    assert request.headers["Authorization"] is None
    record = Records.connect(settings).read("job-1")
    assert record is not None
    assert record.state == State.SUCCESS
    assert record.result == {"charge_id": "ch_1", "amount": "19.90", "currency": "EUR"}


def test_the_key_of_the_provider_goes_with_the_request(redis_url: str, provider: Provider) -> None:
    settings = settings_for(redis_url, payment_url=provider.url, payment_key="secret")
    run(PAYMENT, settings)
    assert provider.requests[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("amount", "currency", "minor_units"),
    [
        ("19.9", "EUR", 1990),
        ("0.01", "USD", 1),
        ("1E+2", "CHF", 10000),
        ("500", "JPY", 500),
        ("1.234", "KWD", 1234),
        ("5", "KWD", 5000),
        ("9999999999.99", "GBP", 999999999999),
    ],
)
def test_the_amount_is_sent_in_the_currencys_smallest_unit(
    settings: Settings, provider: Provider, amount: str, currency: str, minor_units: int
) -> None:
    job = {"order": "A-1", "amount": amount, "currency": currency}
    assert run(job, settings).state == "SUCCESS"
    assert provider.requests[0].body["amount"] == minor_units
    assert isinstance(provider.requests[0].body["amount"], int)


def test_an_amount_that_the_currency_does_not_have_is_never_asked_for(
    settings: Settings, provider: Provider
) -> None:
    result = run({"order": "A-1", "amount": "1.5", "currency": "JPY"}, settings)
    assert isinstance(result.result, ValidationError)
    assert provider.requests == []


def test_a_declined_card_ends_the_job_with_the_providers_reason(
    settings: Settings, provider: Provider
) -> None:
    provider.answers = [(402, {"error": "the card was declined"})]
    result = run(PAYMENT, settings)
    assert isinstance(result.result, ProviderRefusedError)
    assert len(provider.requests) == 1
    record = Records.connect(settings).read("job-1")
    assert record is not None
    assert record.state == State.DEAD
    assert "the card was declined" in (record.error or "")


def test_a_retry_waits_as_long_as_the_catalogue_says(
    settings: Settings, provider: Provider
) -> None:
    for retry in range(3):
        provider.answers = [(503, {})]
        with pytest.raises(Retry) as caught:
            run(PAYMENT, settings, retries=retry, throw=True)
        assert isinstance(caught.value.when, float)
        # backoff: 60 s, doubled with each retry, half as much to one and a half times as much
        assert 30 * 2**retry <= caught.value.when <= 90 * 2**retry


def test_every_attempt_gives_the_same_key_and_body_until_one_is_granted(
    settings: Settings, provider: Provider
) -> None:
    provider.answers = [(503, b""), "drop", (409, {"error": "in progress"}), (429, {})]
    assert run(PAYMENT, settings).result["charge_id"] == "ch_1"
    assert len(provider.requests) == 5
    assert {request.headers["Idempotency-Key"] for request in provider.requests} == {"job-1"}
    assert all(request.body == provider.requests[0].body for request in provider.requests)


@pytest.mark.parametrize(
    "answer", [b"<html>Welcome to the proxy</html>", b"", {}, {"id": ""}, {"id": None}, []]
)
def test_an_answer_without_a_charge_is_asked_about_again_under_the_same_key(
    settings: Settings, provider: Provider, answer: Any
) -> None:
    provider.answers = [(200, answer)]
    assert run(PAYMENT, settings).result["charge_id"] == "ch_1"
    assert [request.headers["Idempotency-Key"] for request in provider.requests] == ["job-1"] * 2


def test_a_job_ends_when_the_catalogues_retries_are_used_up(
    settings: Settings, provider: Provider
) -> None:
    provider.usual = (500, {"error": "out of order"})
    result = run(PAYMENT, settings)
    assert isinstance(result.result, ProviderUnavailableError)
    assert len(provider.requests) == 1 + 5


def test_a_charge_that_was_made_is_not_asked_for_again(
    settings: Settings, provider: Provider
) -> None:
    first = run(PAYMENT, settings).result
    # Delivered once more, because its worker was lost before it had said that the job is done.
    assert run(PAYMENT, settings).result == first
    assert len(provider.requests) == 1


def test_a_charge_that_was_declined_can_be_asked_for_when_the_job_is_replayed(
    settings: Settings, provider: Provider
) -> None:
    provider.answers = [(402, {})]
    run(PAYMENT, settings)

    assert run(PAYMENT, settings).result["charge_id"] == "ch_1"


def test_a_charge_that_may_have_been_made_is_left_to_a_person_when_its_key_may_be_forgotten(
    settings: Settings, provider: Provider
) -> None:
    provider.answers = ["drop"]
    with pytest.raises(Retry):
        run(PAYMENT, settings, throw=True)
    broker = Redis.from_url(settings.broker_url)
    broker.hincrby("penstock:effects:job-1", "charge:since", -25 * 3600 * 1000)

    assert isinstance(run(PAYMENT, settings).result, UncertainEffectError)
    assert len(provider.requests) == 1


def test_a_charge_that_never_got_to_the_provider_is_not_uncertain(redis_url: str) -> None:
    with Provider() as provider:
        settings = settings_for(redis_url, payment_url=provider.url)
    with pytest.raises(Retry):
        run(PAYMENT, settings, throw=True)

    assert not Redis.from_url(settings.broker_url).hexists("penstock:effects:job-1", "charge:token")


class _LosesItsFirstAnswer:
    """A WSGI app in front of another that does what it is asked, then fails once."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.asked = 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.asked += 1
        if self.asked > 1:
            return self.app(environ, start_response)
        list(self.app(environ, lambda *_: None))
        start_response("503 Service Unavailable", [])
        return [b""]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def charging_url(ledger: Ledger) -> Iterator[str]:
    """The development provider, which makes the first charge but does not get to say so."""
    server = make_server("127.0.0.1", 0, _LosesItsFirstAnswer(create_app(ledger)))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_charge_whose_answer_was_lost_is_made_once(
    redis_url: str, charging_url: str, ledger: Ledger
) -> None:
    result = run(PAYMENT, settings_for(redis_url, payment_url=charging_url))
    (charge,) = ledger.charges.values()
    assert result.result["charge_id"] == charge["id"]
    assert charge["amount"] == 1990
    assert len(ledger.path.read_text().splitlines()) == 1
