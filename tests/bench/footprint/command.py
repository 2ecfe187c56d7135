"""What a stack in containers takes before it has done anything, beside one without Penstock."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import click
import requests
from bench import report
from bench.processes import BenchError, end_in_order, free_port

from penstock_dev import env, secret_files

ROOT = Path(__file__).parents[3]
OUTCOME = ROOT / "var" / "bench-footprint.json"
TAG = "bench"
QUEUES = ("email", "image", "report", "payment")
PROJECT = "penstock-bench"
# What both have; the mail catcher and the payment provider are left out of the memory.
SAME = ("web", *QUEUES, "scheduler", "flower", "broker", "results", "cache", "postgres")
# Seconds after which something will not come, and for which a stack is left alone before it counts
# as idle.
PATIENCE = 180.0
SETTLE = 15.0
# With the overlay for development every job has somewhere to go.
PENSTOCK = "deploy/compose.yaml:deploy/compose.dev.yaml"
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "email": ("/api/send-email", {"to": ["a@example.com"], "subject": "s", "text": "t"}),
    "report": ("/api/reports", {"dataset": "users", "formats": ["csv"]}),
    "payment": ("/api/payments", {"order": "o-1", "amount": "1.00", "currency": "EUR"}),
}
# A picture of one pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63680000"
    "0082008177cd72b60000000049454e44ae426082"
)


@dataclass(frozen=True)
class Peer:
    """A stack: its Compose files, how a job is sent to it, and how it is known to have ended."""

    name: str
    files: str
    send: Callable[[str, str, str], str]
    ended: Callable[[str, str, str], bool]


def _send(base: str, key: str, queue: str) -> str:
    headers = {"Authorization": f"Bearer {key}"}
    if queue == "image":
        upload = {"file": ("pixel.png", PIXEL, "image/png")}
        answer = requests.post(f"{base}/api/images", files=upload, headers=headers, timeout=10)
    else:
        path, body = BODIES[queue]
        answer = requests.post(base + path, json=body, headers=headers, timeout=10)
    answer.raise_for_status()
    return str(answer.json()["task_id"])


def _ended(base: str, key: str, job_id: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    answer = requests.get(f"{base}/api/task-status/{job_id}", headers=headers, timeout=10).json()
    if answer["state"] in ("DEAD", "EXPIRED", "CANCELLED"):
        raise BenchError(f"a job ended as {answer['state']}: {answer}")
    return bool(answer["state"] == "SUCCESS")


def _send_plain(base: str, key: str, queue: str) -> str:
    answer = requests.post(f"{base}/jobs/{queue}", timeout=10)
    answer.raise_for_status()
    return str(answer.json()["task_id"])


def _ended_plain(base: str, key: str, job_id: str) -> bool:
    answer = requests.get(f"{base}/jobs/{job_id}", timeout=10).json()
    return bool(answer["state"] == "SUCCESS")


PEERS = (
    Peer("Flask + Celery", "tests/bench/footprint/compose.yaml", _send_plain, _ended_plain),
    Peer("Penstock", PENSTOCK, _send, _ended),
)
FRAME = report.Frame(
    peers=[peer.name for peer in PEERS],
    baseline=PEERS[0].name,
    compared=(" s", "MB"),
    packages=["celery", "kombu", "redis", "flask", "gunicorn"],
    patience=PATIENCE,
)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, help="How often each is started.")
def footprint(rounds: int) -> None:
    """Start each stack from nothing: seconds to healthy and to a job of each queue, memory idle."""
    end_in_order()
    measured: report.Rounds = {}
    try:
        with TemporaryDirectory(prefix="penstock-bench-") as folder:
            path = _env_file(Path(folder))
            _compose(path, PENSTOCK, "build", "--quiet")
            server = _redis_version(path)
            for number in range(rounds):
                for peer in PEERS:
                    print(f"round {number + 1} of {rounds}: {peer.name}", file=sys.stderr)
                    report.add(measured, peer.name, _measure(peer, path))
    except (BenchError, requests.RequestException) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    report.write(measured, FRAME, server, OUTCOME)
    report.show(measured, FRAME)


def _env_file(folder: Path) -> Path:
    path = folder / ".env"
    env.write(ROOT / "deploy" / ".env.example", path)
    secret_files.write(folder / "secrets")
    ports = ("WEB", "FLOWER", "MAIL", "PROVIDER")
    lines = [f"PENSTOCK_{name}_PORT={free_port()}" for name in ports]
    lines += [f"PENSTOCK_SECRETS={folder}/secrets", f"PENSTOCK_VERSION={TAG}"]
    path.write_text("\n".join([path.read_text(), *lines, ""]))
    return path


def _compose(path: Path, files: str, *words: str) -> str:
    done = subprocess.run(
        ["docker", "compose", "-p", PROJECT, "--env-file", path, *words],
        cwd=ROOT,
        env=os.environ | {"COMPOSE_FILE": files},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"docker compose {words[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def _redis_version(path: Path) -> str:
    command = ("run", "--rm", "--no-deps", "--no-TTY", "broker", "redis-server", "--version")
    return _compose(path, PEERS[0].files, *command).split("v=")[1].split()[0]


@contextmanager
def _stack(peer: Peer, path: Path) -> Iterator[Callable[..., str]]:
    try:
        yield partial(_compose, path, peer.files)
    finally:
        _compose(path, peer.files, "down", "--volumes", "--timeout", "5")


def _measure(peer: Peer, path: Path) -> report.Figures:
    """Start a stack, have a job of each queue done, leave it alone, and look at its memory."""
    settings = env.read(path)
    base = f"http://127.0.0.1:{settings['PENSTOCK_WEB_PORT']}"
    key = secret_files.read(path.parent / "secrets", "api_key")
    figures: report.Figures = {}
    began = monotonic()
    with _stack(peer, path) as compose:
        compose("up", "--detach", "--wait")
        figures["healthy s"] = monotonic() - began
        for queue in QUEUES:
            job_id = peer.send(base, key, queue)
            while not peer.ended(base, key, job_id):
                if monotonic() - began > PATIENCE:
                    raise BenchError(f"{peer.name}: the job of the queue {queue} did not end")
                sleep(0.02)
            figures[f"first {queue} s"] = monotonic() - began
        sleep(SETTLE)
        memory = _memory(compose)
    figures |= {f"{service} MB": memory[service] for service in SAME}
    figures["all MB"] = sum(memory[service] for service in SAME)
    return figures


def _memory(compose: Callable[..., str]) -> dict[str, float]:
    """Return the proportional set size of each service's processes, in MB.

    What processes share counts once, a part for each: Linux, Documentation/filesystems/proc.rst.
    """
    found: dict[str, float] = {}
    for line in compose("ps", "--format", "json").splitlines():
        container = json.loads(line)
        pids = subprocess.check_output(
            ["docker", "top", container["ID"], "-eo", "pid"], text=True
        ).split()[1:]
        found[container["Service"]] = sum(map(_pss, pids)) / 1000
    return found


def _pss(pid: str) -> float:
    """Return a process's share of memory in kB; 0 when it has ended meanwhile."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(float(line.split()[1]) * 1.024 for line in lines if line.startswith("Pss:"))
