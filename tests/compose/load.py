"""A steady load of requests and jobs, and what became of each."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Self
from uuid import uuid4

import requests

from compose.conftest import Stack

# Seconds for which a client asks again, as docs/compose-operate.md says a client should.
PATIENCE = 60.0
PAUSE = 0.25


@dataclass
class Load:
    """Reads and payments, one after the other in each of `clients` threads, until its `with` ends.

    A request that finds nobody, or a 502 or 503, is made again; a payment with the same
    Idempotency-Key, so that it is the same job. `failed` are those that were not answered even so.
    """

    stack: Stack
    clients: int = 2
    accepted: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # Asked once: while web is away nobody knows its port, and it keeps it over a restart.
        self.base = self.stack.url("web", 8000)
        self.session = {"Authorization": f"Bearer {self.stack.secret('api_key')}"}
        self._stopping = Event()
        self._lock = Lock()
        self._threads = [Thread(target=self._run, daemon=True) for _ in range(self.clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.1):
            self._ask(lambda: self._get("/api/articles?per_page=5"))
            order = f"load-{uuid4().hex}"
            answer = self._ask(lambda order=order: self._pay(order))  # type: ignore[misc]
            if answer is not None:
                with self._lock:
                    self.accepted[order] = answer.json()["task_id"]

    def _get(self, path: str) -> requests.Response:
        return requests.get(f"{self.base}{path}", headers=self.session, timeout=10)

    def _pay(self, order: str) -> requests.Response:
        return requests.post(
            f"{self.base}/api/payments",
            json={"order": order, "amount": "1.00", "currency": "EUR"},
            headers={**self.session, "Idempotency-Key": order},
            timeout=10,
        )

    def _ask(self, send: Callable[[], requests.Response]) -> requests.Response | None:
        deadline, said = monotonic() + PATIENCE, ""
        while monotonic() < deadline:
            try:
                answer = send()
            except requests.RequestException as error:
                said = type(error).__name__
            else:
                self.answers[answer.status_code] += 1
                if answer.ok:
                    return answer
                said = f"{answer.status_code} {answer.text}"
                if answer.status_code not in (502, 503):
                    break
            sleep(PAUSE)
        self.failed.append(said)
        return None

    def outcome(self) -> dict[str, int]:
        """Return how many requests failed, jobs were lost, and effects happened twice or never."""
        states = [self.stack.ended(job_id, 90)["state"] for job_id in self.accepted.values()]
        ledger = requests.get(f"{self.stack.url('provider', 8090)}/ledger", timeout=10).json()
        charges = Counter(charge["reference"] for charge in ledger)
        return {
            "requests failed": len(self.failed),
            "jobs lost": len(states) - states.count("SUCCESS"),
            "effects doubled": sum(charges[order] > 1 for order in self.accepted),
            "effects missing": sum(charges[order] < 1 for order in self.accepted),
        }


NOTHING_WRONG = {
    "requests failed": 0,
    "jobs lost": 0,
    "effects doubled": 0,
    "effects missing": 0,
}
