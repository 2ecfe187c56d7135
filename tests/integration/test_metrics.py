"""The figures that Prometheus scrapes from the web tier."""

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic, time

import psutil
import pytest
import requests
from figures import Scrape
from flask.testing import FlaskClient
from letters import bury, job
from processes import LIMIT, Running, environment, free_port, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from redis import Redis
from servers import RedisServer

from integration.conftest import KEY
from penstock.broker import Broker
from penstock.catalogue import BY_QUEUE
from penstock.dead_letters import DeadLetters
from penstock.records import Records, State
from penstock.settings import Settings

PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}
COUNT = "penstock_http_request_duration_seconds_count"
MakeClient = Callable[..., FlaskClient]


def scrape(client: FlaskClient) -> Scrape:
    answer = client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    return Scrape(answer.text)


@pytest.fixture
def broker(settings: Settings) -> Broker:
    return Broker(Redis.from_url(settings.broker_url))


def test_nobody_scrapes_without_the_key(client: FlaskClient) -> None:
    del client.environ_base["HTTP_AUTHORIZATION"]
    assert client.get("/metrics").status_code == 401


def test_the_figures_of_the_queues_are_those_of_this_moment(
    client: FlaskClient, broker: Broker
) -> None:
    found = scrape(client)
    for name, queue in BY_QUEUE.items():
        assert found.sum("penstock_queue_backlog", queue=name) == 0
        assert found.sum("penstock_queue_limit", queue=name) == queue.limit
    assert {it.labels["queue"] for it in found.samples if "queue" in it.labels} == set(BY_QUEUE)

    assert client.post("/api/payments", json=PAYMENT).status_code == 202
    broker.client.zadd(broker.keys.delayed("payment"), {"a": 1, "b": int(time() + 60) * 1000})
    bury(broker, job(), "payment", "poison")
    found = scrape(client)
    jobs = {
        place: found.sum("penstock_queue_jobs", queue="payment", place=place)
        for place in ("waiting", "running", "delayed", "due", "dead")
    }
    assert jobs == {"waiting": 1, "running": 0, "delayed": 1, "due": 1, "dead": 1}
    assert found.sum("penstock_queue_backlog", queue="payment") == 2
    assert 0 <= found.sum("penstock_queue_oldest_age_seconds", queue="payment") < 5
    assert found.sum("penstock_queue_backlog") == 2


def test_jobs_are_counted_by_how_they_ended(client: FlaskClient, settings: Settings) -> None:
    records = Records.connect(settings)
    for number, state in enumerate([State.SUCCESS, State.SUCCESS, State.DEAD]):
        records.open(f"j-{number}", "email.send", "email")
        records.note(f"j-{number}", State.STARTED, 1, started_at=time() - 2)
        records.note(f"j-{number}", state, 1)
    found = scrape(client)
    of = {"queue": "email", "job_name": "email.send"}
    assert found.sum("penstock_jobs_ended_total", **of, state="SUCCESS") == 2
    assert found.sum("penstock_jobs_ended_total", **of, state="DEAD") == 1
    assert found.sum("penstock_jobs_run_seconds_total", **of) == pytest.approx(6, abs=2)


def test_letters_that_retention_dropped_are_counted(client: FlaskClient, broker: Broker) -> None:
    bury(broker, job(), "payment", "poison")
    DeadLetters(broker).expire(0, 0)
    assert scrape(client).sum("penstock_dead_letters_dropped_total", reason="poison") == 1


def test_requests_are_counted_by_route_and_status_not_by_what_clients_make_up(
    client: FlaskClient,
) -> None:
    for _ in range(3):
        client.get("/api/task-status/no-such-id")
    client.get("/no/such/route")
    client.open("/livez", method="BREW")
    found = scrape(client)
    status = "/api/task-status/<task_id>"
    assert found.sum(COUNT, method="GET", route=status, status="404") == 3
    assert found.sum(COUNT, route="none", status="404") == 1
    assert found.sum(COUNT, method="other", status="405") == 1
    assert "BREW" not in {it.labels.get("method") for it in found.samples}


def test_what_is_refused_for_its_key_or_breaks_is_counted_too(
    client: FlaskClient, make_client: MakeClient
) -> None:
    client.get("/api/queues", headers={"Authorization": "Bearer wrong"})
    assert scrape(client).sum(COUNT, route="/api/queues", status="401") == 1

    down = make_client(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    down.get("/api/queues")
    assert scrape(down).sum(COUNT, route="/api/queues", status="503") == 1


def test_a_scraper_that_prefers_openmetrics_gets_it(client: FlaskClient) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.mimetype == "application/openmetrics-text"
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    assert "penstock" in {it.name for it in families}


@pytest.mark.parametrize("broker_is", ["down", "frozen"])
def test_without_the_broker_the_rest_is_there(
    broker_is: str, make_client: MakeClient, redis_server: RedisServer
) -> None:
    client = make_client(broker_url=f"{redis_server.url}/0")
    assert scrape(client).sum("penstock_broker_up") == 1
    {"down": redis_server.kill, "frozen": redis_server.freeze}[broker_is]()
    began = monotonic()
    found = scrape(client)
    assert monotonic() - began < 3
    assert "penstock_broker_up" in found.names
    assert found.sum("penstock_broker_up") == 0
    assert found.sum("penstock_redis_up", role="broker") == 0
    assert found.sum("penstock_redis_up", role="results") == 1
    assert found.sum(COUNT, route="/metrics") == 1
    assert "penstock_queue_backlog" not in found.names


def test_without_results_and_cache_the_queues_are_there(make_client: MakeClient) -> None:
    away = f"redis://127.0.0.1:{free_port()}"
    found = scrape(make_client(results_url=f"{away}/0", cache_url=f"{away}/1"))
    assert found.sum("penstock_broker_up") == 1
    assert "penstock_queue_backlog" in found.names
    assert "penstock_jobs_ended_total" not in found.names
    assert found.sum("penstock_redis_up") == 1


def test_a_servers_memory_and_what_it_lost_are_told(
    make_client: MakeClient, tmp_path: Path
) -> None:
    with RedisServer(tmp_path, maxmemory="3mb", **{"maxmemory-policy": "allkeys-lru"}) as server:
        for number in range(400):
            server.client.set(str(number), "x" * 10_000)
        found = scrape(make_client(results_url=f"{server.url}/0"))
    assert found.sum("penstock_redis_memory_max_bytes", role="results") == 3 * 2**20
    assert found.sum("penstock_redis_memory_used_bytes", role="results") > 2**20
    assert found.sum("penstock_redis_evicted_keys_total", role="results") > 0
    assert found.sum("penstock_redis_append_only_ok", role="results") == 1
    assert found.sum("penstock_redis_rejected_connections_total", role="results") == 0


def test_what_the_cache_was_asked_is_counted_by_view(client: FlaskClient) -> None:
    assert [client.get("/api/articles/1").headers["X-Cache"] for _ in range(3)] == [
        *("miss", "hit", "hit")
    ]

    def found(outcome: str) -> float:
        asked = scrape(client)
        return asked.sum(
            "penstock_cache_requests_total", view="articles.read_article", outcome=outcome
        )

    # A process hands on what it has counted once in a while.
    until(lambda: found("hit") == 2, "the hits are counted")
    assert found("miss") == 1


# Gunicorn's processes together


@pytest.fixture
def served(shared_settings: Settings, tmp_path: Path) -> Iterator[tuple[str, Running]]:
    """A web tier of three processes, each of which serves some twenty requests."""
    settings = shared_settings.model_copy(update={"web_bind": f"127.0.0.1:{free_port()}"})
    url = f"http://{settings.web_bind}"
    command = [
        *("gunicorn", "--config", "python:penstock_web.gunicorn_conf", "--workers", "3"),
        *("--max-requests", "20", "--max-requests-jitter", "5", "penstock_web.asgi:app"),
    ]

    def alive() -> bool:
        try:
            return requests.get(f"{url}/livez", timeout=5).ok
        except requests.ConnectionError:
            return False

    log = tmp_path / "web.log"
    with Running(*command, env=environment(settings), log=log) as server:
        server.until(alive, "the web tier answers")
        yield url, server


def asked(url: str) -> bool:
    """Ask for an article once; a worker that ends just then may drop the connection."""
    with suppress(requests.ConnectionError):
        return (
            requests.get(
                f"{url}/api/queues/none",
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=10,
            ).status_code
            == 404
        )
    return False


def counted(url: str) -> float:
    while True:
        with suppress(requests.ConnectionError):
            answer = requests.get(
                f"{url}/metrics", headers={"Authorization": f"Bearer {KEY}"}, timeout=10
            )
            return Scrape(answer.text).sum(COUNT, route="/api/queues/<name>", status="404")


def folder_of(workers: list[psutil.Process]) -> Path:
    """Return where the workers count; one of them at least has begun to."""
    [folder] = {
        Path(it.path).parent
        for worker in workers
        for it in worker.memory_maps()
        if "/penstock-metrics-" in it.path
    }
    return folder


def test_the_processes_count_together_and_go_on_where_those_before_them_ended(
    served: tuple[str, Running],
) -> None:
    url, server = served
    master = psutil.Process(server.process.pid)
    first = master.children()
    folder = folder_of(first)
    answered, last = 0, 0.0
    deadline = monotonic() + LIMIT
    # A process that has served its share ends within a second of that.
    for number in count():
        answered += asked(url)
        if number % 10 == 0:
            now = counted(url)
            assert now >= last, "a counter that falls reads as a restart"
            last = now
        if number == 75:
            master.children()[0].send_signal(signal.SIGKILL)
        if number >= 150 and not set(first) & set(master.children()):
            break
        assert monotonic() < deadline, "some process never ended"
    # A process that was killed may have counted what it could not answer any more.
    assert counted(url) == pytest.approx(answered, abs=2)
    places = {int(file.stem.rpartition("_")[2]) for file in folder.iterdir()}
    assert places <= {0, 1, 2, 3}

    assert server.end() == 0
    assert not folder.exists()
