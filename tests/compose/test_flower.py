"""Flower beside the workers: in a browser through Caddy, and what it shows and leaves alone."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from playwright.sync_api import Browser, Error, HttpCredentials, expect, sync_playwright
from processes import until

from compose.conftest import Stack
from penstock.catalogue import QUEUES

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

# Whatever Chromium would ask of servers elsewhere stays out, and it runs as root in CI.
CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Where the picture in the docs is made anew, when this is set.
PICTURE = os.environ.get("PENSTOCK_PICTURES")
ORDER = {"amount": "1.00", "currency": "EUR"}
# What every reading leaves as it is; leases are renewed all the time, and not by reading.
KEYS = ("penstock:held:*", "penstock:delayed:*", "penstock:dead*")


@pytest.fixture(scope="module")
def sign_in(stack: Stack) -> tuple[str, str]:
    user, _, password = stack.secret("flower_sign_in").partition(":")
    return user, password


def get(stack: Stack, path: str) -> requests.Response:
    sign_in = tuple(stack.secret("flower_sign_in").split(":", 1))
    url = f"{stack.url('flower', 5555)}/flower{path}"
    answer = requests.get(url, auth=sign_in, timeout=30)  # type: ignore[arg-type]
    assert answer.status_code == 200, path
    return answer


def workers(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = get(stack, "/api/workers?refresh=1").json()
    return found


def pay(stack: Stack) -> str:
    answer = stack.api("POST", "/api/payments", {"order": f"flower-{uuid4().hex}", **ORDER})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(stack: Stack) -> str:
    port = stack.run("port", "proxy", "443").strip().rpartition(":")[2]
    return f"https://localhost:{port}/flower/"


@pytest.mark.browser
def test_a_browser_without_the_password_is_refused(
    browser: Browser, address: str, sign_in: tuple[str, str]
) -> None:
    for credentials in (None, HttpCredentials(username=sign_in[0], password="wrong")):
        with browser.new_context(ignore_https_errors=True, http_credentials=credentials) as context:
            page = context.new_page()
            # Chromium takes it for an error of its own, or shows the answer, as it happens.
            with suppress(Error):
                page.goto(address)
            expect(page.get_by_text("payment@")).to_have_count(0)
            answer = context.request.get(address)
            assert (answer.status, answer.text()) == (401, "Access denied")


@pytest.mark.browser
def test_a_browser_that_signs_in_sees_every_worker_and_a_job_that_just_ran(
    stack: Stack, browser: Browser, address: str, sign_in: tuple[str, str], tmp_path: Path
) -> None:
    job_id = pay(stack)
    assert stack.ended(job_id)["state"] == "SUCCESS"
    user, password = sign_in
    credentials = HttpCredentials(username=user, password=password)
    with browser.new_context(
        ignore_https_errors=True,
        http_credentials=credentials,
        viewport={"width": 1280, "height": 720},
    ) as context:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        for queue in QUEUES:
            row = page.locator("tr", has_text=f"{queue.name}@")
            row.first.wait_for()
            assert "Online" in row.first.inner_text()
        pictures = Path(PICTURE) if PICTURE else tmp_path
        page.screenshot(path=pictures / "flower-workers.png")
        page.get_by_role("link", name="Tasks", exact=True).click()
        page.get_by_role("searchbox").fill(job_id)
        row = page.locator("tr", has_text=job_id)
        row.wait_for()
        assert "SUCCESS" in row.inner_text()
        assert "payment.process" in row.inner_text()
        page.goto(f"{address}task/{job_id}")
        page.get_by_text("payment.process").first.wait_for()
        assert "order='flower-" in page.content()
        page.screenshot(path=pictures / "flower-task.png")
    assert errors == []


# What it shows


def test_flower_leaves_out_of_arguments_what_is_between_sender_and_receiver(stack: Stack) -> None:
    secret = f"s3cret-{uuid4().hex}"
    mail = {"to": ["ada@example.com"], "subject": "Shown", "text": secret, "html": f"<p>{secret}"}
    note = {"user_id": 1, "title": "Shown", "message": secret}
    for path, body in (("/api/send-email", mail), ("/api/notifications", note)):
        job_id = stack.api("POST", path, body).json()["task_id"]
        assert stack.ended(job_id)["state"] == "SUCCESS"
        until(lambda job_id=job_id: job_id in get(stack, "/api/tasks").json(), "it is seen")  # type: ignore[misc]
        for page in (f"/task/{job_id}", f"/api/task/info/{job_id}", "/tasks", "/api/tasks"):
            assert secret not in get(stack, page).text
        assert "'Shown'" in get(stack, f"/api/task/info/{job_id}").json()["kwargs"]


def test_a_workers_page_shows_neither_passwords_nor_arguments(stack: Stack) -> None:
    secrets = [path.read_text().strip() for path in stack.secrets.iterdir()]
    for name in until(lambda: workers(stack), "the workers have answered"):
        page = get(stack, f"/worker/{name}").text
        assert not [secret for secret in secrets if secret and secret in page]


def lengths(stack: Stack) -> dict[str, int]:
    """Return what the page of queues says."""
    page = get(stack, "/broker").text
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)
    cells = [re.sub(r"<[^>]*>", " ", row).split() for row in rows]
    return {row[0]: int(row[1]) for row in cells if len(row) > 1 and row[1].isdigit()}


def in_the_broker(stack: Stack) -> dict[str, str]:
    """Return all that the broker holds of jobs, as Redis dumps it."""
    script = """
    local all = {}
    for _, pattern in ipairs(ARGV) do
      for _, key in ipairs(redis.call('KEYS', pattern)) do
        table.insert(all, key .. ' ' .. redis.sha1hex(redis.call('DUMP', key)))
      end
    end
    return all
    """
    names = [queue.name for queue in QUEUES]
    lines = stack.redis("broker", "eval", script, "0", *names, *KEYS).splitlines()
    return dict(line.rsplit(" ", 1) for line in lines)


def test_the_page_of_queues_has_each_with_what_waits_and_looking_moves_nothing(
    stack: Stack,
) -> None:
    until(lambda: workers(stack), "the workers have answered")
    stack.run("stop", "payment")
    try:
        waiting = [pay(stack) for _ in range(3)]
        before = in_the_broker(stack)
        assert "payment" in before
        for _ in range(2):
            assert lengths(stack) == {queue.name: 0 for queue in QUEUES} | {"payment": 3}
            for page in ("/", "/?refresh=1", "/tasks", "/api/workers?refresh=1", "/api/tasks"):
                get(stack, page)
            assert get(stack, "/api/queues/length").json()["active_queues"]
            for name in workers(stack):
                if not name.startswith("payment@"):
                    get(stack, f"/worker/{name}")
        assert in_the_broker(stack) == before
        # One that begins anew has never seen the worker that is gone.
        stack.run("restart", "flower")
        stack.run("up", "--detach", "--wait", "--no-recreate", "flower")
        until(lambda: workers(stack), "the workers have answered")
        assert lengths(stack)["payment"] == 3
        assert in_the_broker(stack) == before
    finally:
        stack.run("up", "--detach", "--wait", "--no-recreate", "payment")
    assert [stack.ended(job_id)["state"] for job_id in waiting] == ["SUCCESS"] * 3


def test_flower_may_look_and_not_act(stack: Stack) -> None:
    [name] = [name for name in workers(stack) if name.startswith("image@")]
    sign_in = tuple(stack.secret("flower_sign_in").split(":", 1))
    url = f"{stack.url('flower', 5555)}/flower/api/worker/shutdown/{name}"
    refused = requests.post(url, auth=sign_in, timeout=30)  # type: ignore[arg-type]
    assert refused.status_code == 403


def test_what_flower_saw_outlives_it(stack: Stack) -> None:
    job_id = pay(stack)
    assert stack.ended(job_id)["state"] == "SUCCESS"
    until(lambda: job_id in get(stack, "/api/tasks").json(), "it is seen")
    stack.run("up", "--detach", "--no-deps", "--force-recreate", "--wait", "flower")
    assert get(stack, "/api/tasks").json()[job_id]["state"] == "SUCCESS"
