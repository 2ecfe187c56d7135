"""The transport on servers that are reached in other ways: socket, ACL user, Sentinel."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue
from processes import free_port
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from penstock import transport
from penstock_dev.redis_server import find_redis_server

transport.register()
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
