"""The transport on servers that are reached in other ways: socket, ACL user, TLS, Sentinel."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from celery import Celery
from flower.utils.broker import Broker
from kombu import Connection, Consumer, Message, Producer, Queue
from processes import Running, environment, free_port, until
from redis import Redis, RedisError
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from penstock import install, transport
from penstock.contracts import PaymentProcess
from penstock.producer import Producer as Jobs
from penstock.records import Records, State
from penstock.settings import Settings
from penstock.stack import for_celery, make_app
from penstock_dev.redis_server import find_redis_server

transport.register()
TESTS = Path(__file__).parents[1]
# Servers for machines without containers are built without TLS.
TLS_IMAGE = "redis:8.0"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that end with the test."""
    transport._custodies.clear()
    started = []

    def start_(*words: str) -> subprocess.Popen[bytes]:
        command = [find_redis_server(), *words]
        started.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL))
        return started[-1]

    yield start_
    for custody in transport.custodies():
        custody._stopping.set()
    transport._custodies.clear()
    for server in started:
        server.terminate()
        server.wait(10)


def patient(**where: Any) -> Redis:
    return Redis(**where, retry=Retry(ConstantBackoff(0.05), 100))


def there_and_back(url: str, **options: Any) -> None:
    """Publish a message, take it, lose the connection, and acknowledge it all the same."""
    received: list[Message] = []
    with Connection(url, transport_options={"priority_steps": [0], **options}) as connection:
        channel = connection.channel()
        Producer(channel).publish("there", routing_key="email", exchange="")
        with Consumer(channel, [Queue("email", no_declare=True)], on_message=received.append):
            deadline = monotonic() + 5
            while not received and monotonic() < deadline:
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue
    [message] = received
    [custody] = transport.custodies()
    [holding] = custody._holdings
    assert len(custody.broker.held(holding.key)) == 1
    message.ack()
    assert custody.broker.held(holding.key) == []
    assert custody.broker.renew([holding.key], 15) == 0


def test_through_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    start("--port", "0", "--unixsocket", str(path), "--save", "")
    patient(unix_socket_path=str(path)).ping()

    there_and_back(f"redis+socket://{path}?virtual_host=0")


def test_as_an_acl_user_with_a_password_full_of_signs(start: Start) -> None:
    port = free_port()
    start("--port", str(port), "--bind", "127.0.0.1", "--save", "")
    client = patient(port=port)
    client.ping()
    client.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "worker", "on", ">p@ss:w/rd#", "~*", "&*", "+@all", "-@dangerous", "+info"
    )

    there_and_back(f"redis://worker:p%40ss%3Aw%2Frd%23@127.0.0.1:{port}/0")


def test_behind_sentinel(start: Start, tmp_path: Path) -> None:
    port, sentinel = free_port(), free_port()
    start("--port", str(port), "--bind", "127.0.0.1", "--save", "")
    patient(port=port).ping()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nbind 127.0.0.1\nsentinel monitor jobs 127.0.0.1 {port} 1\n"
    )
    start(str(config), "--sentinel")
    patient(port=sentinel).ping()

    there_and_back(f"sentinel://127.0.0.1:{sentinel}", master_name="jobs")


@pytest.fixture
def tls_url(tmp_path: Path) -> Iterator[str]:
    """The address of a server that speaks TLS alone, with a certificate of its own authority."""
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    tmp_path.chmod(0o755)
    (tmp_path / "server.pem").chmod(0o644)
    tls = [
        "--protected-mode",
        "no",
        "--port",
        "0",
        "--tls-port",
        "6379",
        "--tls-auth-clients",
        "no",
    ]
    files = {"cert": "server.pem", "key": "server.pem", "ca-cert": "ca.pem"}
    tls += [word for of, name in files.items() for word in (f"--tls-{of}-file", f"/tls/{name}")]
    command = ["docker", "run", "--detach", "--publish", f"127.0.0.1:{port}:6379"]
    command += ["--volume", f"{tmp_path}:/tls:ro", TLS_IMAGE, "redis-server", *tls]
    container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    url = f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=required"
    url += f"&ssl_ca_certs={tmp_path}/ca.pem"

    def answers() -> bool:
        try:
            with Redis.from_url(url) as client:
                return bool(client.ping())
        except RedisError:
            return False

    try:
        until(answers, "the server answers")
        yield url
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)


@pytest.mark.docker
def test_through_tls(start: Start, tls_url: str) -> None:
    there_and_back(tls_url)


@pytest.mark.docker
def test_a_certificate_of_nobody_we_know_is_refused(start: Start, tls_url: str) -> None:
    with pytest.raises(Exception, match="certificate verify failed"):
        there_and_back(tls_url.partition("&")[0], socket_timeout=5)


@pytest.mark.docker
@pytest.mark.parametrize("more", ["", "?ssl_ca_certs={folder}/ca.pem", "?ssl_cert_reqs=none"])
def test_the_settings_verify_a_certificate_unless_they_say_otherwise(
    start: Start, tls_url: str, tmp_path: Path, more: str
) -> None:
    url = tls_url.partition("?")[0] + more.format(folder=tmp_path)
    wanted = for_celery(Settings(broker_url=url).redis("broker"))
    if more:
        there_and_back(wanted)
        return
    with pytest.raises(Exception, match="certificate verify failed"):
        there_and_back(wanted, socket_timeout=5)


@pytest.mark.docker
def test_flower_counts_what_waits_behind_tls(start: Start, tls_url: str, tmp_path: Path) -> None:
    url = f"{tls_url.partition('?')[0]}?ssl_ca_certs={tmp_path}/ca.pem"
    app = make_app(Settings(broker_url=url, results_url=url, role_guard="off"))
    with Redis.from_url(tls_url) as client:
        client.lpush("payment", "a job")
    with app.connection_for_read() as connection:
        # As Flower makes it, in views/__init__.py.
        asked = Broker(
            connection.as_uri(include_password=True), broker_use_ssl=app.conf.broker_use_ssl
        )
    [queue] = asyncio.run(asked.queues(["payment"]))
    assert (queue["name"], queue["messages"]) == ("payment", 1)


@pytest.mark.docker
def test_a_certificate_of_another_name_is_refused(
    start: Start, tls_url: str, tmp_path: Path
) -> None:
    url = tls_url.partition("?")[0].replace("127.0.0.1", "localhost")
    url = Settings(broker_url=f"{url}?ssl_ca_certs={tmp_path}/ca.pem").redis("broker")
    with pytest.raises(Exception, match="certificate verify failed"):
        there_and_back(url, socket_timeout=5)


def test_the_stack_through_unix_sockets(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    secret = "p@ss:w/rd#?"
    server = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "yes"]
    start(*server, "--requirepass", secret)
    client = patient(unix_socket_path=str(path), password=secret, db=1)
    client.ping()
    settings = Settings(
        broker_url=f"unix://{path}?db=1",
        results_url=f"unix://{path}?db=2",
        cache_url=f"unix://{path}?db=3",
        files=tmp_path / "files",
        redis_password=secret,
    )
    heartbeat = tmp_path / "heartbeat"
    command = ["celery", "--app", "penstock.app", "worker", "--queues", "payment"]
    env = environment(settings, heartbeat=heartbeat, payment_url="http://127.0.0.1:1")
    with Running(*command, env=env, log=tmp_path / "worker.log") as worker:
        worker.until(heartbeat.exists, "the worker is ready")
        records = Records.connect(settings)
        job = PaymentProcess(order="o-1", amount=Decimal("19.90"), currency="EUR")
        job_id = Jobs(make_app(settings), records).submit(job)
        # Nobody takes the money, so it waits for its next try.
        worker.until(
            lambda: (record := records.read(job_id)) and record.state == State.RETRY, "it was run"
        )
        assert client.exists("penstock:delayed:payment")
        assert secret not in worker.said
        assert quote(secret, safe="") not in worker.said


def test_a_worker_follows_sentinel_to_the_new_master_and_loses_nothing(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    ports = first, second, sentinel = free_port(), free_port(), free_port()
    folders = [tmp_path / str(port) for port in ports]
    for folder in folders:
        folder.mkdir()
    common = ["--bind", "127.0.0.1", "--save", ""]
    master = start("--port", str(first), "--dir", str(folders[0]), *common)
    patient(port=first).ping()
    start(
        *("--port", str(second), "--dir", str(folders[1]), *common),
        *("--replicaof", "127.0.0.1", str(first)),
    )
    replica = patient(port=second)
    until(lambda: replica.info("replication")["master_link_status"] == "up", "it replicates")
    config = folders[2] / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nbind 127.0.0.1\nsentinel monitor jobs 127.0.0.1 {first} 1\n"
        "sentinel down-after-milliseconds jobs 1000\nsentinel failover-timeout jobs 5000\n"
    )
    start(str(config), "--sentinel")
    watch = patient(port=sentinel)

    def replicas() -> object:
        return watch.execute_command("SENTINEL", "REPLICAS", "jobs")  # type: ignore[no-untyped-call]

    def master_port() -> int:
        [_, port] = watch.execute_command(  # type: ignore[no-untyped-call]
            "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "jobs"
        )
        return int(port)

    until(replicas, "Sentinel knows the replica")
    settings = Settings(results_url=f"{redis_url}/1", broker_url=f"{redis_url}/0")
    records = Records.connect(settings)
    url = f"sentinel://127.0.0.1:{sentinel}"
    app = Celery("client", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"master_name": "jobs", "global_keyprefix": "theirs:"}
    install(app, settings)
    heartbeat = tmp_path / "heartbeat"
    command = ["celery", "--app", "integration.sentinel_tasks", "worker", "--pool", "threads"]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    env = {**environment(settings, heartbeat=heartbeat), "PYTHONPATH": path, "SENTINEL": url}

    def send(seconds: float) -> str:
        return str(app.send_task("sentinel.wait", args=[seconds], queue="jobs").id)

    with Running(*command, "--concurrency=2", env=env, log=tmp_path / "worker.log") as worker:
        worker.until(heartbeat.exists, "the worker is ready")
        jobs = [send(4), *(send(0.1) for _ in range(20)), send(4)]
        worker.until(lambda: (it := records.read(jobs[0])) and it.state == "STARTED", "it begins")
        until(lambda: replica.llen("theirs:jobs") < 22, "the replica has it")
        master.kill()
        until(lambda: master_port() == second, "Sentinel has another master")
        jobs.append(send(0.1))

        def ended() -> bool:
            found = [records.read(job) for job in jobs]
            return all(record and record.state == State.SUCCESS for record in found)

        worker.until(ended, "every job is done")
        holdings: Any = replica.zrange("theirs:penstock:leases", 0, -1)
        worker.until(lambda: not any(map(replica.llen, holdings)), "nothing is left")
