"""Jobs over HTTP while a server behind the web tier is down, frozen, full or read-only."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from redis import Redis
from servers import RedisServer, deaf_port
from werkzeug.test import TestResponse

from penstock.broker import Broker
from penstock.catalogue import BY_QUEUE
from penstock.housekeeping import Housekeeper
from penstock.producer import PATIENCE, QUEUED_WITHIN
from penstock.records import Records, State
from penstock.settings import Settings
from penstock_web.factory import RECORDS_TIMEOUT

MakeClient = Callable[..., FlaskClient]

PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}


@contextmanager
def promptly() -> Iterator[None]:
    """Fail when it takes as long as without a limit of our own: kombu's is 4 s, the sockets' 5 s.

    How long it may wait at most is a sum, which a busy machine cannot spoil; see the first test.
    """
    began = monotonic()
    yield
    assert monotonic() - began < 3


def upload(client: FlaskClient) -> TestResponse:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    data = {"file": (io.BytesIO(stream.getvalue()), "picture", "image/png")}
    return client.post("/api/images", data=data)


def post(client: FlaskClient, **body: Any) -> TestResponse:
    return client.post("/api/payments", json={**PAYMENT, **body})


def waiting(redis: Redis, queue: str = "payment") -> int:
    return int(str(redis.llen(queue)))


def kept(settings: Settings) -> set[Any]:
    """Return the records and the files that there are."""
    files = set(Path(settings.files).iterdir()) if Path(settings.files).exists() else set()
    return files | set(Redis.from_url(settings.results_url).keys())


def refuses(client: FlaskClient, settings: Settings) -> bool:
    """Whether a job is refused at once, for now, without a trace."""
    before = kept(settings)
    with promptly():
        answer = upload(client)
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    return kept(settings) == before


@pytest.fixture
def client(make_client: MakeClient, redis_server: RedisServer) -> FlaskClient:
    """A client whose broker is a server of the test's own."""
    return make_client(broker_url=f"{redis_server.url}/0")


def test_all_that_a_job_may_wait_for_is_within_a_second() -> None:
    # To connect and for the first answer; or for the broker's answer and the results'.
    assert 2 * PATIENCE < 1
    assert PATIENCE + RECORDS_TIMEOUT < 1
    assert QUEUED_WITHIN < PATIENCE


# The broker


def test_a_broker_that_is_down_refuses_jobs_and_the_first_one_after_it_is_back_is_accepted(
    client: FlaskClient, settings: Settings, redis_server: RedisServer
) -> None:
    redis_server.kill()
    assert refuses(client, settings)
    redis_server.start()
    assert post(client).status_code == 202
    redis_server.kill()
    assert refuses(client, settings)
    redis_server.start()
    assert post(client).status_code == 202
    assert waiting(redis_server.client) == 2


def test_a_broker_that_was_restarted_between_two_jobs_is_not_noticed(
    client: FlaskClient, redis_server: RedisServer
) -> None:
    for _ in range(3):
        assert post(client).status_code == 202
        redis_server.kill()
        redis_server.start()
    assert waiting(redis_server.client) == 3


def test_a_broker_that_drops_packets_refuses_jobs(
    make_client: MakeClient, settings: Settings
) -> None:
    with deaf_port() as port:
        client = make_client(broker_url=f"redis://127.0.0.1:{port}/0")
        assert refuses(client, settings)


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_what_a_frozen_broker_was_sent_is_not_queued_when_it_goes_on(
    client: FlaskClient, settings: Settings, redis_server: RedisServer, known: bool
) -> None:
    if known:
        post(client)
    redis_server.freeze()
    assert refuses(client, settings)
    assert refuses(client, settings)
    redis_server.thaw()

    assert waiting(redis_server.client, "image") == 0
    assert post(client).status_code == 202
    assert waiting(redis_server.client) == known + 1


def test_a_full_broker_refuses_jobs_until_there_is_room(
    client: FlaskClient, settings: Settings, redis_server: RedisServer
) -> None:
    redis_server.client.config_set("maxmemory", "1")
    assert refuses(client, settings)
    redis_server.client.config_set("maxmemory", "0")
    assert post(client).status_code == 202
    redis_server.client.config_set("maxmemory", "1")
    assert refuses(client, settings)


def test_a_broker_that_became_a_replica_refuses_jobs_until_it_is_none(
    client: FlaskClient, settings: Settings, redis_server: RedisServer
) -> None:
    redis_server.client.replicaof("127.0.0.1", "1")
    assert refuses(client, settings)
    redis_server.client.replicaof("no", "one")
    assert post(client).status_code == 202


def test_a_broker_whose_clock_was_set_goes_on_accepting_jobs(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    post(client)
    # Ours, since a test cannot set the server's.
    monkeypatch.setattr("penstock.clock.monotonic", lambda: monotonic() - 5)
    assert post(client).status_code == 202
    assert waiting(redis_server.client) == 2


def test_a_queue_that_is_full_refuses_jobs_for_now_and_only_its_own(
    client: FlaskClient, settings: Settings, redis_server: RedisServer
) -> None:
    with redis_server.client.pipeline() as pipe:
        for _ in range(BY_QUEUE["image"].limit // 1000):
            pipe.lpush("image", *["x"] * 1000)
        pipe.execute()
    answer = upload(client)

    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    assert "100,000 jobs wait in the queue image" in answer.get_json()["detail"]
    assert kept(settings) == set()
    assert post(client).status_code == 202
    redis_server.client.rpop("image")
    assert upload(client).status_code == 202


# The results


def test_without_the_results_jobs_are_accepted_and_known_when_they_are_back(
    make_client: MakeClient, settings: Settings, redis_server: RedisServer
) -> None:
    client = make_client(results_url=f"{redis_server.url}/0")
    redis_server.kill()
    with promptly():
        answer = post(client)
    assert answer.status_code == 202
    status_url = answer.get_json()["status_url"]
    with promptly():
        assert client.get(status_url).status_code == 503

    redis_server.start()
    broker = Broker(Redis.from_url(settings.broker_url))
    records = Records(redis_server.client, lambda: broker, ttl=60)
    assert Housekeeper(broker, records).deliver_notes() == 1
    status = client.get(status_url).get_json()
    assert (status["state"], status["queue"]) == ("PENDING", "payment")


def test_with_frozen_results_jobs_are_accepted_all_the_same(
    make_client: MakeClient, settings: Settings, redis_server: RedisServer
) -> None:
    client = make_client(results_url=f"{redis_server.url}/0")
    post(client)
    redis_server.freeze()
    for _ in range(2):
        with promptly():
            assert post(client).status_code == 202
    with promptly():
        assert client.get("/api/task-status/x").status_code == 503
    redis_server.thaw()
    assert waiting(Redis.from_url(settings.broker_url)) == 3
    assert client.get(post(client).get_json()["status_url"]).status_code == 202


def test_with_one_frozen_server_in_all_roles_a_job_is_refused_at_once(
    make_client: MakeClient, settings: Settings, redis_server: RedisServer
) -> None:
    url = f"{redis_server.url}/0"
    client = make_client(broker_url=url, results_url=url, cache_url=url)
    redis_server.freeze()
    with promptly():
        assert post(client).status_code == 503


def test_a_job_that_a_worker_began_before_its_record_was_opened_stays_begun(
    settings: Settings,
) -> None:
    records = Records.connect(settings)
    records.note("j", State.STARTED, 1)
    records.open("j", "payment.process", "payment")

    record = records.read("j")
    assert record is not None
    assert record.state == State.STARTED
    assert record.queued_at is not None
