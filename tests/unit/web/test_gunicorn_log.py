import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from penstock_web.gunicorn_log import combined_line, json_line

REQUEST = {
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/api/articles?page=3",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "10.0.0.7",
    "HTTP_USER_AGENT": "curl/8.5",
}


def answer(status: int | str = 200, **headers: str) -> Any:
    return SimpleNamespace(
        status=status,
        sent=25_886,
        headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
    )


def test_a_json_line_says_what_was_asked_how_it_ended_and_what_it_took() -> None:
    line = json_line(answer(x_cache="hit"), REQUEST, 0.00081234)
    assert line.endswith("}\n")
    said = json.loads(line)
    moment = datetime.fromisoformat(said.pop("timestamp"))
    assert datetime.now(UTC) - moment < timedelta(minutes=1)
    assert said == {
        "method": "GET",
        "path": "/api/articles?page=3",
        "status": 200,
        "bytes": 25_886,
        "seconds": 0.000812,
        "cache": "hit",
        "client": "10.0.0.7",
        "user_agent": "curl/8.5",
        "event": "request",
        "logger": "access",
        "level": "info",
    }


def test_a_json_line_names_the_client_that_a_proxy_speaks_for() -> None:
    said = json.loads(json_line(answer(), {**REQUEST, "HTTP_X_FORWARDED_FOR": "192.0.2.1"}, 0))
    assert said["forwarded_for"] == "192.0.2.1"
    assert "cache" not in said


@pytest.mark.parametrize("status", [404, "404 NOT FOUND"])
def test_both_kinds_of_application_give_a_line_its_status(status: int | str) -> None:
    assert json.loads(json_line(answer(status), REQUEST, 0))["status"] == 404
    assert '" 404 25886 "' in combined_line(answer(status), REQUEST, 0)


def test_a_combined_line_is_one_as_apache_writes_it() -> None:
    before, request, rest, referer, between, agent, end = combined_line(
        answer(), {**REQUEST, "HTTP_REFERER": "https://example.org/"}, 0
    ).split('"')
    address, user, name, moment, zone = before.split()
    assert (address, user, name) == ("10.0.0.7", "-", "-")
    written = datetime.strptime(f"{moment} {zone}", "[%d/%b/%Y:%H:%M:%S %z]")
    assert datetime.now(UTC) - written < timedelta(minutes=1)
    assert request == "GET /api/articles?page=3 HTTP/1.1"
    assert (rest, between, end) == (" 200 25886 ", " ", "\n")
    assert (referer, agent) == ("https://example.org/", "curl/8.5")


def test_a_client_cannot_end_a_field_of_a_combined_line() -> None:
    line = combined_line(answer(), {**REQUEST, "HTTP_USER_AGENT": 'x" 200 "'}, 0)
    assert line.endswith('"x\\" 200 \\""\n')
