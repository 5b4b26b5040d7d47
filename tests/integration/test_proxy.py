"""Behind a proxy: a root path that it takes off or not, its word that is believed, and nobody else's."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trustme

import tallyboard
from tallyboard.wire.limits import BODY_BYTES_MAX, MIB
from tallyboard_server.settings import Settings
from tests.cli_process import report
from tests.service import Answer, RunningService, serving, until

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TOKEN: Final = "open-sesame"
ROOT: Final = "/tallyboard"
FORGED: Final = {
    "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example",
    "X-Request-Id": "forged",
}  # fmt: skip
AUTHORIZED: Final = {"Authorization": f"Bearer {TOKEN}"}
needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None, reason="nginx is not installed here, so its block in docs/operations.md is not tried"
)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that believes 127.0.0.1, and is shown below ROOT."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("behind"), port=0, token=TOKEN, root_path=ROOT, trusted_proxies="127.0.0.1",
        allowed_hosts="tally.example",
    )  # fmt: skip
    with serving(settings) as service:
        service.headers.clear()
        yield service


@dataclass
class Proxy:
    """nginx with the page's own block: `kept` passes the whole path on, `taken` takes the root path off."""

    kept: int
    taken: int
    ca_file: str


@pytest.fixture(scope="module")
def nginx(behind: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    authority = trustme.CA()
    made = authority.issue_cert("tally.example", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made.private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    servers, ports = [], []
    for passed in (f"http://127.0.0.1:{behind.port};", f"http://127.0.0.1:{behind.port}/;"):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            ports.append(probe.getsockname()[1])
        block = BLOCK.replace("listen 443", f"listen {ports[-1]}").replace("http://127.0.0.1:6007;", passed)
        block = block.replace("/etc/ssl/tally.example.pem", f"{folder}/cert.pem")
        servers.append(block.replace("/etc/ssl/private/tally.example.key", f"{folder}/cert.pem"))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; "
        f"events {{}} http {{ access_log off; {temporary} {''.join(servers)} }}"
    )
    with subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", "nginx.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            assert until(lambda: all(_listens(port) for port in ports)), (folder / "error.log").read_text()
            yield Proxy(ports[0], ports[1], ca_file=str(folder / "ca.pem"))
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def ask(
    proxy: Proxy,
    port: int,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] = {},
    body: bytes | None = None,
    source: str = "127.0.0.1",
) -> Answer:
    """A request to nginx as tally.example, from an address of this machine."""
    context = ssl.create_default_context(cafile=proxy.ca_file)
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Host": f"tally.example:{port}"} | dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def log_in(send: Any, origin: str) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
    answer: Answer = send(f"token={TOKEN}&next=docs".encode(), headers)
    return answer


@pytest.fixture(params=["kept", "taken"])
def port(request: pytest.FixtureRequest, nginx: Proxy) -> int:
    found: int = getattr(nginx, request.param)
    return found


@needs_nginx
def test_pages_assets_and_redirects_stay_below_the_path(nginx: Proxy, port: int) -> None:
    html = {"Accept": "text/html"}
    login = ask(nginx, port, f"{ROOT}/", headers=html)
    assert (login.status, b'action="login"' in login.body) == (401, True)
    led = ask(nginx, port, f"{ROOT}/tensorboard/", headers=html)
    assert (led.status, led.headers["location"]) == (303, "../login?next=tensorboard%2F")
    page = ask(nginx, port, f"{ROOT}/", headers=AUTHORIZED)
    assert page.status == 200
    for asset in re.findall(r'(?:src|href)="\./([^"]+)"', page.body.decode()):
        assert ask(nginx, port, f"{ROOT}/{asset}", headers=AUTHORIZED).status == 200, asset
    assert ask(nginx, port, ROOT).status in (301, 307)
    docs = ask(nginx, port, f"{ROOT}/docs", headers=AUTHORIZED).body.decode()
    for link in re.findall(r"(?:src|href)=\"([^\"]+)\"|url: '([^']+)'", docs):
        path = link[0] or link[1]
        assert path.startswith(f"{ROOT}/")
        assert ask(nginx, port, path, headers=AUTHORIZED).status == 200, path
    described = msgspec.json.decode(ask(nginx, port, f"{ROOT}/openapi.json", headers=AUTHORIZED).body)
    assert described["servers"] == [{"url": ROOT}]
    assert ask(nginx, port, f"{ROOT}/tensorboard", headers=AUTHORIZED).headers["location"] == "tensorboard/"
    environment = ask(nginx, port, f"{ROOT}/tensorboard/data/environment", headers=AUTHORIZED)
    assert b"window_title" in environment.body


@needs_nginx
def test_a_browser_logs_in_with_a_cookie_that_stays_there(nginx: Proxy, port: int) -> None:
    entered = log_in(
        lambda body, headers: ask(nginx, port, f"{ROOT}/login", "POST", headers, body), f"https://tally.example:{port}"
    )
    assert (entered.status, entered.headers["location"]) == (303, "./docs")
    (cookie,) = SimpleCookie(entered.headers["set-cookie"]).values()
    assert (cookie["path"], bool(cookie["secure"]), bool(cookie["httponly"])) == (f"{ROOT}/", True, True)
    header = {"Cookie": f"{cookie.key}={cookie.value}"}
    assert ask(nginx, port, f"{ROOT}/api/v1/runs", headers=header).status == 200
    foreign = header | {"Origin": "https://evil.example"}
    assert ask(nginx, port, f"{ROOT}/api/v1/runs", headers=foreign).status == 403
    assert ask(nginx, port, f"{ROOT}/api/v1/runs", headers=header | {"Host": "evil.example"}).status == 421


@needs_nginx
def test_streams_come_as_they_are_sent(nginx: Proxy, port: int) -> None:
    context = ssl.create_default_context(cafile=nginx.ca_file)
    with (
        socket.create_connection(("localhost", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        request = f"GET {ROOT}/api/v1/live HTTP/1.1\r\nHost: tally.example\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        secure.sendall(request.encode())
        received = b""
        while b"event: hello" not in received:
            piece = secure.recv(65536)
            assert piece, received
            received += piece


@needs_nginx
def test_the_client_reports_through_it_and_the_audit_knows_from_where(
    nginx: Proxy, port: int, behind: RunningService, tmp_path: Path
) -> None:
    url = f"https://localhost:{port}{ROOT}"
    run = tallyboard.init(
        f"proxied/{port}", url=url, token=TOKEN, ca_file=nginx.ca_file, spool_dir=tmp_path, strict=True
    )
    run.log({"loss": 0.5}, step=1)
    run.finish()
    assert tallyboard.read(f"proxied/{port}", url=url, token=TOKEN, ca_file=nginx.ca_file)["value"].tolist() == [0.5]
    body = b'{"step": 1, "scalars": {"loss": 0.5}}'
    sent = ask(
        nginx, port, f"{ROOT}/api/v1/scalars/from/{port}", "POST",
        AUTHORIZED | FORGED | {"Content-Type": "application/json"}, body, source="127.0.0.2",
    )  # fmt: skip
    assert sent.status == 200
    assert re.fullmatch(r"[0-9a-f]{32}", sent.headers["x-request-id"])  # nginx's own
    assert created(behind, f"from/{port}") == "127.0.0.2"


@needs_nginx
def test_the_page_lets_bodies_through_as_large_as_the_service_takes() -> None:
    assert f"client_max_body_size {BODY_BYTES_MAX // MIB}m;" in BLOCK


def created(service: RunningService, run: str) -> str:
    """From which address a run was created."""
    (entry,) = service.get(f"/audit?run={run}&action=run.create", AUTHORIZED).json()["entries"]
    address: str = entry["address"]
    return address


def direct(service: RunningService, path: str, source: str, **options: Any) -> Answer:
    """A request to the service itself, from an address of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request(options.get("method", "GET"), path, options.get("body"), options.get("headers", {}))
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@pytest.mark.parametrize(("source", "believed"), [("127.0.0.1", True), ("127.0.0.3", False)])
def test_only_of_a_trusted_address_is_anything_believed(behind: RunningService, source: str, believed: bool) -> None:
    run = f"told/{source}"
    said = FORGED | {"X-Forwarded-Host": "tally.example"}
    body = b'{"step": 1, "scalars": {"loss": 0.5}}'
    headers = AUTHORIZED | said | {"Content-Type": "application/json"}
    sent = direct(behind, f"/api/v1/scalars/{run}", source, method="POST", headers=headers, body=body)
    assert sent.status == 200
    assert (sent.headers["x-request-id"] == "forged") == believed
    assert created(behind, run) == ("203.0.113.9" if believed else source)
    entered = log_in(
        lambda form, head: direct(behind, "/login", source, method="POST", headers=said | head, body=form),
        "https://tally.example" if believed else f"http://127.0.0.1:{behind.port}",
    )
    assert entered.status == 303
    assert ("Secure" in entered.headers["set-cookie"]) == believed
    hosts = [
        direct(behind, "/login", source, headers=FORGED).status,
        direct(behind, "/login", source, headers=said).status,
    ]
    assert hosts == ([421, 200] if believed else [200, 200])


@pytest.mark.parametrize("root", ["", ROOT])
def test_the_root_path_may_be_there_or_not(behind: RunningService, root: str) -> None:
    behind.headers.update(AUTHORIZED)
    try:
        report(behind, f"rooted/x{len(root)}", range(3))
        for path in ("/", "/api/v1/runs", "/docs", "/tensorboard/data/environment", "/healthz", "/metrics"):
            assert behind.request("GET", f"{root}{path}").status == 200, path
        sent = behind.request(
            "POST", f"{root}/api/v1/scalars/rooted/y{len(root)}", b'{"step": 1, "scalars": {"loss": 0.5}}',
            {"Content-Type": "application/json"},
        )  # fmt: skip
        assert sent.json()["run"] == f"rooted/y{len(root)}"
        assert behind.request("GET", f"{ROOT}?a=b").headers["location"] == f"{ROOT}/?a=b"
        assert behind.request("GET", f"{ROOT}x/api/v1/runs").status == 404
    finally:
        behind.headers.clear()
    assert behind.request("GET", f"{root}/api/v1/runs").status == 401
    assert behind.request("GET", f"{root}{root}/api/v1/runs").status == 401
