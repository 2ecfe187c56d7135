"""wrk, which asks for a URL on many connections for a while."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError

CONNECTIONS = 32
# Seconds after which an answer has not come.
PATIENCE = 10
SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Load:
    """What came of it: requests a second, latencies in milliseconds, how many requests in all."""

    rate: float
    p50: float
    p99: float
    requests: int


def require() -> None:
    """Raise BenchError where wrk is missing."""
    if not shutil.which("wrk"):
        raise BenchError("wrk is not on PATH; Debian and Ubuntu have it as the package wrk")


def load(url: str, seconds: int, headers: Mapping[str, str], pages_from: int | None = None) -> Load:
    """Ask for a URL, or for another page of articles each time; raise where an answer is no answer.

    One thread: it asks for 65,000 files a second from nginx, more than any peer answers, and a
    second one would take the servers' processors.
    """
    words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    script = [] if pages_from is None else ["--", str(pages_from)]
    how = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", f"{PATIENCE}s"]
    command = ["wrk", *how, f"-s{SCRIPT}", *words, url]
    done = subprocess.run([*command, *script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    if said["refused"] or said["broken"]:
        raise BenchError(
            f"{url}: of {said['requests']} answers {said['refused']} were errors,"
            f" and {said['broken']} connections broke"
        )
    return Load(
        1e6 * said["requests"] / said["us"],
        said["p50"] / 1e3,
        said["p99"] / 1e3,
        said["requests"],
    )
