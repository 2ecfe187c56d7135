"""Other people's clients on the same broker."""

import sys
from collections import Counter
from time import monotonic

import requests
from chaos.scenario import scenario
from chaos.stage import START_LIMIT, Stage
from chaos.waiting import pause, until
from processes import free_port

from penstock.custody import LEASE


@scenario()
def strangers(stage: Stage) -> None:
    """`celery inspect ping`, Flower and clients with Celery's default settings while long jobs
    run - no job starts twice."""
    stage.work("one", "two")
    for _ in range(3):
        stage.publish("linger", {"first": 3 * LEASE, "later": 3 * LEASE})
    url = stage.settings.broker_url
    port = free_port()
    celery = [sys.executable, "-m", "celery"]
    flower = stage.spawn(
        [*celery, "--broker", url, "flower", "--address=127.0.0.1", f"--port={port}"],
        "flower",
        {"FLOWER_UNAUTHENTICATED_API": "true"},
    )
    clients = [
        stage.spawn([sys.executable, "-m", "chaos.stranger", url, timeout], f"timeout-{timeout}")
        for timeout in ("3600", "1")
    ]
    until(lambda: _answers(port, "/healthcheck"), "Flower answers", START_LIMIT)
    visits = Counter[str]()
    began = monotonic()
    while monotonic() - began < 2 * LEASE:
        for path in ("/api/workers?refresh=1", "/api/queues/length", "/api/tasks", "/broker"):
            visits["Flower"] += _answers(port, path)
        for of in (["--app", "chaos.app"], ["--broker", url]):
            ping = stage.spawn([*celery, *of, "inspect", "ping"], "ping")
            visits["pings"] += ping.process.wait(30) == 0
        pause(1)
    for visitor in (flower, *clients):
        stage.must(visitor.running, f"{visitor.log.name}: {visitor.last_words()}")
        visitor.kill()
    # What strangers publish is a job like any other.
    theirs = [job_id for client in clients for job_id in client.log.read_text().split()]
    visits["jobs of theirs"] = len(theirs)
    stage.accepted += theirs
    stage.until_ended(60)
    twice = [job_id for job_id, times in stage.ledger.count("start").items() if times > 1]
    stage.figures["visits"] = dict(visits)
    stage.figures["started twice"] = len(twice)
    stage.must(min(visits.values()) > 1, f"too few visits: {dict(visits)}")
    stage.must(not twice, f"{len(twice)} jobs started twice")


def _answers(port: int, path: str) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).ok
    except requests.RequestException:
        return False
