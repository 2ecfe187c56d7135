import smtplib
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from processes import Running, environment, free_port, run

MAIL = b"Subject: Hello\r\nFrom: a@example.com\r\n\r\nDear Ada,\r\n..dots\r\n\xc3\xa9\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mail") / "to" / "be made"


@pytest.fixture(scope="module")
def port(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a mail catcher that runs."""
    port = free_port()
    env = environment(mail_bind=f"127.0.0.1:{port}", mail_folder=folder)
    log = tmp_path_factory.mktemp("logs") / "mail.log"
    with Running("penstock-dev", "mail", env=env, log=log) as catcher:

        def listens() -> bool:
            with closing(socket.socket()) as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        catcher.until(listens, "the catcher listens")
        yield port


def test_each_message_becomes_a_file_with_exactly_what_was_sent(port: int, folder: Path) -> None:
    mails = [b"X-Number: %d\r\n" % number + MAIL for number in range(4)]
    with smtplib.SMTP("127.0.0.1", port) as server:
        for mail in mails[:3]:
            server.sendmail("a@example.com", ["b@example.com", "c@example.com"], mail)
        # An address outside ASCII needs an extension (RFC 6531).
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        server.sendmail("a@example.com", ["jörg@example.com"], mails[3], mail_options=options)
    caught = sorted(folder.iterdir())
    assert [path.suffix for path in caught] == [".eml"] * 4
    assert [path.read_bytes() for path in caught] == mails


def test_a_port_in_use_ends_the_catcher_with_one_line_that_names_it(
    port: int, folder: Path
) -> None:
    env = environment(mail_bind=f"127.0.0.1:{port}", mail_folder=folder)
    ended = run("penstock-dev", "mail", env=env)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert str(port) in line
    assert "in use" in line
