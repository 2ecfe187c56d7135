"""Real servers on loopback that keep what they are sent and can be told to answer otherwise."""
# ruff: noqa: N802 - the names of handlers are the libraries'

import asyncio
import json
import signal
import socket
import ssl
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage, Message
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from resource import RLIMIT_FSIZE, prlimit
from threading import Event, Thread
from typing import Any, Self

import boto3
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from processes import BIN, free_port, free_ports, until
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from penstock_dev.redis_server import find_redis_server


class MailServer(Controller):
    """An SMTP server; `mails` are the envelopes it took.

    `answers` holds what it says instead of 250, one entry for each time it is asked, by the command
    (MAIL, DATA, QUIT) or the recipient's address. With "drop" it ends the connection instead.
    """

    PASSWORD = b"correct"

    def __init__(self, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        super().__init__(
            self,
            hostname="127.0.0.1",
            port=0,
            ssl_context=tls,
            enable_SMTPUTF8=options.pop("enable_SMTPUTF8", True),
            authenticator=self._sign_in,
            server_hostname="mail.example.com",
            **options,
        )
        self.mails: list[Envelope] = []
        self.signed_in: list[Any] = []
        self.attempts = 0
        self.answers: defaultdict[str, list[str]] = defaultdict(list)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _trigger_server(self) -> None:
        # The system picked the port.
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]

    @property
    def messages(self) -> list[EmailMessage]:
        """What arrived, parsed."""
        parser = BytesParser(policy=default)
        messages = [parser.parsebytes(mail.original_content or b"") for mail in self.mails]
        return [message for message in messages if isinstance(message, EmailMessage)]

    def _answer(self, what: str, server: SMTP) -> str | None:
        if not self.answers[what]:
            return None
        answer = self.answers[what].pop(0)
        if answer == "drop":
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return answer

    def _sign_in(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.signed_in.append(data.login)
        return AuthResult(success=data.password == self.PASSWORD, handled=False)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.attempts += 1
        if answer := self._answer("MAIL", server):
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if answer := self._answer(address, server):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if answer := self._answer("DATA", server):
            return answer
        self.mails.append(envelope)
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return self._answer("QUIT", server) or "221 Bye"


class RedisServer:
    """A Redis server as a broker, with an append-only file, which can be killed and frozen."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client = Redis(port=self.port, retry=Retry(ConstantBackoff(0.05), 100))
        given = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "yes",
            # By default a write is put off while the disk is busy, and a killed server has lost it.
            "appendfsync": "always",
            **options,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        self._command = [find_redis_server(), *words]
        self._folder = folder
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start, and return when it answers with what it had kept."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            # A write beyond the limit of `fill_disk` fails then, and does not end the server.
            restore_signals=False,
        )
        self.client.ping()

    def fill_disk(self) -> None:
        """Let it write no byte more to a file; with `appendfsync="always"` it would end."""
        _, most = prlimit(self._process.pid, RLIMIT_FSIZE)
        prlimit(self._process.pid, RLIMIT_FSIZE, (0, most))

    def free_disk(self) -> None:
        """Let it write again."""
        _, most = prlimit(self._process.pid, RLIMIT_FSIZE)
        prlimit(self._process.pid, RLIMIT_FSIZE, (most, most))

    def kill(self) -> None:
        """Kill it, frozen or not."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it answer nothing, though the system goes on taking what it is sent."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with what it was sent meanwhile."""
        self._process.send_signal(signal.SIGCONT)
        self.client.ping()


class LossyWire:
    """A way to a server that loses an answer: with `lose` set, that to the next request with it in.

    The server has done what it was asked, and the connection ends. `lost` counts the answers.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lose = b""
        self.lost = 0

    def __enter__(self) -> Self:
        Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        """Carry each request and its answer, which both are small enough to come in one piece."""
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._to)) as server:
            while request := client.recv(65536):
                server.sendall(request)
                answer = server.recv(65536)
                # A script that the server does not know yet is sent once more.
                if self.lose and self.lose in request and not answer.startswith(b"-NOSCRIPT"):
                    self.lose = b""
                    self.lost += 1
                    return
                client.sendall(answer)


class S3Server:
    """SeaweedFS, which speaks S3, with the bucket `files`; it can be killed and frozen."""

    BUCKET = "files"
    KEY_ID = "penstock"
    KEY = "key-of-the-tests"
    LISTENERS = tuple(
        f"-{part}.port{kind}"
        for part in ("master", "volume", "filer", "s3")
        for kind in ("", ".grpc")
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        key = {"accessKey": self.KEY_ID, "secretKey": self.KEY}
        identity = {"name": "penstock", "actions": ["Admin"], "credentials": [key]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = dict(zip(self.LISTENERS, free_ports(len(self.LISTENERS)), strict=True))
        self.url = f"http://127.0.0.1:{ports['-s3.port']}"
        self._command = [
            *(str(BIN / "weed"), f"-logdir={folder}", "server", f"-dir={folder}"),
            *(
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                f"-s3.config={folder}/s3.json",
            ),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=0"),
            *(f"{listener}={port}" for listener, port in ports.items()),
        ]
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.KEY_ID,
            aws_secret_access_key=self.KEY,
            # What is asked while it starts may never be answered.
            config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}),
        )
        self.start()
        try:
            until(self._has_bucket, "the S3 server has its bucket")
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def settings(self, prefix: str = "") -> dict[str, str]:
        """Return the settings for files that are kept here."""
        return {
            "files": f"s3://{self.BUCKET}/{prefix}",
            "s3_endpoint": self.url,
            "s3_region": "us-east-1",
            "s3_access_key_id": self.KEY_ID,
            "s3_secret_access_key": self.KEY,
        }

    def start(self) -> None:
        """Start; it takes some seconds before it answers."""
        with (self._folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it, frozen or not."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it answer nothing, though the system goes on taking what it is sent."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _has_bucket(self) -> bool:
        try:
            self.client.create_bucket(Bucket=self.BUCKET)
        except (BotoCoreError, ClientError):
            return False
        return True


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port at which a request to connect gets no answer at all, as if its packets were lost."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with ExitStack() as waiting:
            # The system drops what comes when as many wait as it was told to let wait.
            for _ in range(4):
                connection = waiting.enter_context(closing(socket.socket()))
                connection.setblocking(False)
                connection.connect_ex(listener.getsockname())
            yield listener.getsockname()[1]


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    path: str
    headers: Message
    body: Any


class Provider(ThreadingHTTPServer):
    """An HTTP server that takes JSON; `requests` are what it was asked.

    `answers` holds a status and a body (JSON, or bytes as they are) for each request to come;
    without one it answers `usual`. With "drop" it ends the connection instead, with "hang" it
    does not answer at all. `headers` go with every answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProviderHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[Request] = []
        self.usual: tuple[int, Any] = (201, {"id": "ch_1"})
        self.answers: list[tuple[int, Any] | str] = []
        self.headers: dict[str, str] = {}
        self.closing = Event()

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class _ProviderHandler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(Request(self.path, self.headers, json.loads(body)))
        answer = self.server.answers.pop(0) if self.server.answers else self.server.usual
        if isinstance(answer, str):
            if answer == "hang":
                self.server.closing.wait(30)
            self.close_connection = True
            return
        status, content = answer
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep the tests' output quiet."""
