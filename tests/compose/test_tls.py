"""What comes in by HTTPS, through Caddy, as a client with HTTP/2 sees it."""

import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from processes import free_port, until

from compose.conftest import ROOT, Stack
from penstock.settings import Settings
from penstock_web.factory import OVERHEAD

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ROOT_CERTIFICATE = "/data/caddy/pki/authorities/local/root.crt"
LIMIT = Settings.model_fields["upload_max"].default + OVERHEAD
PROBLEM = "application/problem+json"


def address(stack: Stack, port: int) -> str:
    return stack.run("port", "proxy", str(port)).strip().rpartition(":")[2]


@pytest.fixture(scope="module")
def trust(stack: Stack) -> ssl.SSLContext:
    """Trust in the certificates that this Caddy makes, and in no others."""
    return ssl.create_default_context(
        cadata=stack.run("exec", "-T", "proxy", "cat", ROOT_CERTIFICATE)
    )


def client_of(stack: Stack, trust: ssl.SSLContext, http2: bool) -> httpx.Client:
    return httpx.Client(
        http2=http2,
        verify=trust,
        base_url=f"https://localhost:{address(stack, 443)}",
        headers={"Authorization": f"Bearer {stack.secret('api_key')}"},
        timeout=30,
    )


@pytest.fixture(scope="module")
def client(stack: Stack, trust: ssl.SSLContext) -> Iterator[httpx.Client]:
    """A client of the API."""
    with client_of(stack, trust, http2=True) as client:
        yield client


@pytest.fixture(scope="module")
def uploader(stack: Stack, trust: ssl.SSLContext) -> Iterator[httpx.Client]:
    """One without HTTP/2, by which httpx does not see an answer before it has sent everything."""
    with client_of(stack, trust, http2=False) as client:
        yield client


@pytest.fixture(scope="module")
def signed_in(stack: Stack) -> httpx.BasicAuth:
    return httpx.BasicAuth(*stack.secret("flower_sign_in").split(":", 1))


def test_the_api_is_served_by_http_2_and_compressed(client: httpx.Client) -> None:
    answer = client.get("/api/articles")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
    assert answer.headers["Content-Encoding"] in ("zstd", "gzip")
    assert answer.json()["items"]


def test_a_certificate_is_for_the_name_and_from_its_authority(client: httpx.Client) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(client.base_url)


def test_an_answer_does_not_say_what_serves_and_is_taken_for_what_it_is(
    client: httpx.Client,
) -> None:
    headers = client.get("/api/articles").headers
    assert "Server" not in headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    # Of localhost a browser would hold it against everything else there.
    assert "Strict-Transport-Security" not in headers


def test_by_plain_http_one_is_sent_to_https(stack: Stack) -> None:
    answer = httpx.get(f"http://localhost:{address(stack, 80)}/api/articles?page=2")
    assert answer.status_code == 308
    port = address(stack, 443)
    assert answer.headers["Location"] == f"https://localhost:{port}/api/articles?page=2"


def test_at_the_port_of_https_itself_one_is_sent_there_without_naming_it() -> None:
    file = f"{ROOT}/deploy/Caddyfile:/etc/caddy/Caddyfile:ro"
    variables = {"PENSTOCK_DOMAIN": "localhost", "HTTPS_PORT": "443", "REQUEST_MAX": "1"}
    given = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    port = free_port()
    command = ["docker", "run", "--detach", "--rm", "--publish", f"127.0.0.1:{port}:80", *given]
    command += ["--volume", file, "caddy:2", "caddy", "run", "--config", "/etc/caddy/Caddyfile"]
    proxy = subprocess.check_output(command, text=True).strip()
    try:
        url = f"http://localhost:{port}/api/articles?page=2"
        answer = until(lambda: answer_of(url), "the proxy answers", limit=20)
    finally:
        subprocess.run(["docker", "stop", "--time", "1", proxy], capture_output=True, check=True)
    assert answer is not None
    assert answer.headers["Location"] == "https://localhost/api/articles?page=2"


def answer_of(url: str) -> httpx.Response | None:
    """Return what a server says, or None while it is not there."""
    try:
        return httpx.get(url)
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("path", ["/api/articles", "/metrics"])
def test_http_3_is_announced_at_the_port_that_is_published(
    stack: Stack, client: httpx.Client, path: str
) -> None:
    announced = client.get(path).headers["Alt-Svc"]
    assert announced.startswith(f'h3=":{address(stack, 443)}";')


def test_without_the_key_the_api_says_nothing(client: httpx.Client) -> None:
    answer = client.get("/api/articles", headers={"Authorization": ""})
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, PROBLEM)


def test_a_request_below_the_limit_is_webs_to_judge_and_one_byte_more_is_refused(
    uploader: httpx.Client,
) -> None:
    # Too little of a mail to be accepted, which web says when it has read it all.
    assert uploader.post("/api/send-email", content=b" " * (LIMIT - 1)).status_code == 422
    answer = uploader.post("/api/send-email", content=b" " * LIMIT)
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, PROBLEM)
    assert answer.json()["detail"] == "the request is too large"


def test_a_request_that_does_not_say_its_size_is_cut_off_at_the_limit(
    uploader: httpx.Client,
) -> None:
    answer = uploader.post("/api/send-email", content=iter([b" " * 2**20] * 20))
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the request is too large"


def test_flower_is_under_its_path_behind_its_sign_in(
    client: httpx.Client, signed_in: httpx.BasicAuth
) -> None:
    answer = client.get("/flower")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/flower/")
    for path in ("/flower/", "/flower/tasks", "/flower/api/workers"):
        assert client.get(path, headers={"Authorization": ""}).status_code == 401
        assert client.get(path).status_code == 401
        assert client.get(path, auth=signed_in).status_code == 200
    # The page's own links stay under the path.
    page = client.get("/flower/", auth=signed_in).text
    assert 'href="/flower/tasks"' in page
    style = page.partition('href="/flower/static/')[2].partition('"')[0]
    assert client.get(f"/flower/static/{style}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/flower/metrics", "/flower/metrics/", "/flower//metrics", "/FLOWER/metrics"),
        *("/flower/%6detrics", "/flower/x/../metrics", "/flower/healthcheck", "/metrics"),
    ],
)
def test_what_is_open_inside_is_not_open_to_the_outside(
    client: httpx.Client, signed_in: httpx.BasicAuth, path: str
) -> None:
    for auth in (None, signed_in):
        answer = client.get(httpx.URL(str(client.base_url), raw_path=path.encode()), auth=auth)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "there is nothing at this address"


def test_a_request_waits_while_web_is_restarted(stack: Stack, client: httpx.Client) -> None:
    stack.run("stop", "web")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.get, "/livez")
        with pytest.raises(TimeoutError):
            waiting.result(1)
        stack.run("start", "web")
        assert waiting.result().status_code == 200


def test_caddy_keeps_its_authority_over_a_new_container(stack: Stack, client: httpx.Client) -> None:
    stack.run("up", "--detach", "--no-deps", "--force-recreate", "--wait", "proxy")
    assert client.get("/livez").status_code == 200
