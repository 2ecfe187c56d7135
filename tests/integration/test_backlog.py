"""How much there is to do in each queue: in the broker, over HTTP and at the command line."""

import json
from collections.abc import Callable, Iterator
from time import monotonic, sleep, time

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from letters import bury, job
from messages import encoded
from processes import environment, free_port
from redis import Redis
from servers import RedisServer, deaf_port

from penstock import outcomes
from penstock.backlog import Backlog, Figures
from penstock.broker import Broker
from penstock.catalogue import BY_QUEUE
from penstock.cli import main
from penstock.custody import Custody
from penstock.records import Records, State
from penstock.settings import get_settings

PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}


@pytest.fixture(params=["", "prefix-"])
def broker(redis_url: str, request: pytest.FixtureRequest) -> Broker:
    return Broker(Redis.from_url(redis_url), request.param)


@pytest.fixture
def records(redis_url: str, broker: Broker) -> Records:
    return Records(Redis.from_url(f"{redis_url}/1"), lambda: broker, ttl=60)


@pytest.fixture
def custody(broker: Broker) -> Iterator[Custody]:
    custody = Custody(broker, lease=0.3, name="worker-1")
    yield custody
    die(custody)


@pytest.fixture
def read(broker: Broker, records: Records) -> Callable[[], Figures]:
    """Read the figures of the queue email."""
    backlog = Backlog(broker, records)

    def figures() -> Figures:
        [email] = backlog.read(["email"])
        return email

    return figures


def put(broker: Broker, job_id: str = "j-1") -> None:
    item = encoded(headers={"id": job_id, "task": "email.send"})
    broker.client.lpush(broker.keys.queue("email"), item)


def take(broker: Broker, custody: Custody) -> str:
    [holding] = custody.open(["email"]).values()
    item = broker.client.lmove(broker.keys.queue("email"), holding.key, "RIGHT", "LEFT")
    assert isinstance(item, bytes)
    return custody.took(holding, item)


def die(custody: Custody) -> None:
    custody._stopping.set()
    if custody._thread is not None:
        custody._thread.join()


def delay(broker: Broker, *dues: float) -> None:
    for due in dues:
        broker.client.zadd(broker.keys.delayed("email"), {f"item {due}": int(due * 1000)})


def test_an_empty_broker_has_nothing_to_do(broker: Broker, records: Records) -> None:
    figures = Backlog(broker, records).read()
    assert [it.queue for it in figures] == list(BY_QUEUE)
    for it in figures:
        assert set(it.model_dump(exclude={"queue", "oldest_age"}).values()) == {0}
        assert it.oldest_age is None


def test_every_job_is_counted_where_it_is_and_once(
    broker: Broker, custody: Custody, read: Callable[[], Figures]
) -> None:
    for number in range(4):
        put(broker, f"j-{number}")
    take(broker, custody)
    delay(broker, time() + 60, time() + 70, time() + 80, time() - 1, time() - 2)
    bury(broker, job("email.send", "dead"), "email", "poison")
    bury(broker, job("payment.process", "other"), "payment", "poison")

    found = read()
    assert (found.waiting, found.running, found.delayed, found.due) == (3, 1, 3, 2)
    assert (found.dead, found.backlog, found.workers) == (1, 6, 1)


def test_what_a_worker_took_counts_until_it_ends_also_when_it_has_not_begun(
    broker: Broker, custody: Custody, read: Callable[[], Figures]
) -> None:
    for number in range(3):
        put(broker, f"j-{number}")
    tags = [take(broker, custody) for _ in range(3)]
    assert (read().waiting, read().running, read().backlog) == (0, 3, 3)

    custody.give_back(tags.pop())
    assert (read().waiting, read().running, read().backlog) == (1, 2, 3)
    for tag in tags:
        custody.done(tag)
    assert (read().running, read().backlog) == (0, 1)


def test_a_retry_is_delayed_and_then_due(
    broker: Broker, custody: Custody, read: Callable[[], Figures]
) -> None:
    put(broker)
    due = time() + 0.5
    custody.settle(
        take(broker, custody),
        lambda it: outcomes.later(broker.keys, "email", it.item, "worker-1", "failed", due),
    )
    assert (read().delayed, read().due, read().backlog) == (1, 0, 0)
    sleep(max(0, due - time()) + 0.05)
    assert (read().delayed, read().due, read().backlog) == (0, 1, 1)
    broker.move_due("email")
    assert (read().waiting, read().due, read().backlog) == (1, 0, 1)


def test_a_lost_workers_jobs_stay_in_the_backlog_but_the_worker_does_not_count(
    broker: Broker, custody: Custody, read: Callable[[], Figures]
) -> None:
    put(broker)
    take(broker, custody)
    assert read().workers == 1
    die(custody)
    sleep(0.4)
    assert (read().workers, read().running, read().backlog) == (0, 1, 1)


def test_workers_are_counted_not_their_connections_nor_those_of_other_queues(
    broker: Broker, custody: Custody, read: Callable[[], Figures]
) -> None:
    custody.open(["email", "payment"])
    custody.open(["email"])
    other = Custody(broker, lease=5, name="worker-2")
    try:
        other.open(["email"])
        third = Custody(broker, lease=5, name="worker-3")
        third.open(["payment"])
        assert read().workers == 2
    finally:
        die(third)
        die(other)


def test_the_oldest_is_as_old_as_its_record_says(
    broker: Broker, records: Records, read: Callable[[], Figures]
) -> None:
    records.open("j-1", "email.send", "email", time() - 50)
    records.open("j-2", "email.send", "email", time() - 10)
    put(broker, "j-1")
    put(broker, "j-2")
    assert read().oldest_age == pytest.approx(50, abs=5)

    broker.client.rpop(broker.keys.queue("email"))
    assert read().oldest_age == pytest.approx(10, abs=5)


def test_a_retry_waits_since_it_was_due(
    broker: Broker, records: Records, read: Callable[[], Figures]
) -> None:
    records.open("j-1", "email.send", "email", time() - 500)
    records.note("j-1", State.RETRY, 2, error="failed", retry_at=time() - 5)
    put(broker, "j-1")
    assert read().oldest_age == pytest.approx(5, abs=4)


@pytest.mark.parametrize("item", [b"not a message", b"{}", encoded(headers={}), encoded()])
def test_a_job_without_a_record_is_of_no_known_age(
    item: bytes, broker: Broker, read: Callable[[], Figures]
) -> None:
    broker.client.lpush(broker.keys.queue("email"), item)
    assert (read().waiting, read().oldest_age) == (1, None)


def test_a_cancelled_job_counts_until_a_worker_has_put_it_away(
    broker: Broker, custody: Custody, records: Records, read: Callable[[], Figures]
) -> None:
    records.open("j-1", "email.send", "email")
    put(broker)
    records.cancel("j-1")
    assert read().backlog == 1
    custody.done(take(broker, custody))
    assert read().backlog == 0


def test_the_figures_of_all_queues_and_of_one_over_http(client: FlaskClient) -> None:
    assert client.post("/api/payments", json=PAYMENT).status_code == 202
    answer = client.get("/api/queues/payment")
    assert answer.status_code == 200
    payment = answer.get_json()
    age = payment.pop("oldest_age")
    assert 0 <= age < 5
    assert payment == {
        "queue": "payment",
        "waiting": 1,
        "running": 0,
        "delayed": 0,
        "due": 0,
        "dead": 0,
        "backlog": 1,
        "workers": 0,
    }
    items = client.get("/api/queues").get_json()["items"]
    assert {it["queue"]: it["backlog"] for it in items} == {
        name: int(name == "payment") for name in BY_QUEUE
    }


def test_a_queue_that_is_not_there_is_a_problem_that_names_those_that_are(
    client: FlaskClient,
) -> None:
    answer = client.get("/api/queues/emails")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.get_json()["detail"] == (
        "there is no queue 'emails', only email, image, report, payment"
    )


def test_nobody_sees_the_figures_without_the_key(client: FlaskClient) -> None:
    del client.environ_base["HTTP_AUTHORIZATION"]
    assert client.get("/api/queues/email").status_code == 401


@pytest.mark.parametrize("broker_is", ["down", "frozen", "deaf"])
def test_without_the_broker_the_answer_is_503_at_once(
    broker_is: str, make_client: Callable[..., FlaskClient], redis_server: RedisServer
) -> None:
    with deaf_port() as deaf:
        port = {"down": free_port(), "deaf": deaf, "frozen": redis_server.port}[broker_is]
        client = make_client(broker_url=f"redis://127.0.0.1:{port}/0")
        if broker_is == "frozen":
            assert client.get("/api/queues/email").status_code == 200
            redis_server.freeze()
        began = monotonic()
        answer = client.get("/api/queues/email")
        # Twice the patience is under a second; a busy machine gets some more.
        assert monotonic() - began < 2
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0


def test_without_the_results_only_the_age_is_missing(
    make_client: Callable[..., FlaskClient],
) -> None:
    client = make_client(results_url=f"redis://127.0.0.1:{free_port()}/0")
    assert client.post("/api/payments", json=PAYMENT).status_code == 202
    payment = client.get("/api/queues/payment").get_json()
    assert (payment["backlog"], payment["oldest_age"]) == (1, None)


@pytest.fixture
def environ(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the command, which finds the server there."""
    for name, value in environment(broker_url=redis_url, results_url=f"{redis_url}/1").items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    return monkeypatch


def test_the_command_prints_a_table_and_json(environ: pytest.MonkeyPatch, redis_url: str) -> None:
    broker = Broker(Redis.from_url(redis_url))
    Records.connect(get_settings()).open("j-1", "email.send", "email", time() - 7200)
    put(broker)
    shown = CliRunner().invoke(main, ["queues"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    head, email, *others = shown.stdout.splitlines()
    assert head.split() == [
        *("QUEUE", "WAITING", "RUNNING", "DELAYED", "DUE", "DEAD", "BACKLOG", "WORKERS"),
        *("OLDEST", "AGE"),
    ]
    assert email.split()[:-1] == ["email", "1", "0", "0", "0", "0", "1", "0"]
    assert email.split()[-1] in {"7,200s", "7,201s", "7,202s"}
    assert len(others) == len(BY_QUEUE) - 1

    told = CliRunner().invoke(main, ["queues", "--json"])
    assert [it["backlog"] for it in json.loads(told.stdout)["items"]] == [1, 0, 0, 0]


def test_the_command_says_in_one_line_that_the_broker_is_away(
    environ: pytest.MonkeyPatch,
) -> None:
    environ.setenv("PENSTOCK_BROKER_URL", f"redis://127.0.0.1:{free_port()}/0")
    get_settings.cache_clear()
    answer = CliRunner().invoke(main, ["queues"])
    assert (answer.exit_code, answer.stdout) == (2, "")
    [line] = answer.stderr.splitlines()
    assert "PENSTOCK_BROKER_URL" in line
