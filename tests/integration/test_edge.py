"""What every response carries, whoever answers, and what is logged of it: never a secret."""

import base64
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tallyboard_server.logs import JsonFormatter, TextFormatter
from tallyboard_server.settings import Settings
from tests.conftest import StartService
from tests.service import RunningService, serving
from tests.sse import listening

SECRET = "s3cret-t0ken-never-shown"
DATA = {
    "content-security-policy": "default-src 'none'", "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}  # fmt: skip
PAGE = {"cross-origin-opener-policy": "same-origin", "permissions-policy": "camera=()"}
OWN = DATA | PAGE | {"referrer-policy": "same-origin"}

ROUTES = [
    ("GET", "/", 200, OWN), ("GET", "/assets/nothing.js", 404, DATA), ("GET", "/login", 303, DATA),
    ("GET", "/docs", 200, DATA | PAGE), ("GET", "/docs-assets/swagger-ui.css", 200, DATA),
    ("GET", "/openapi.json", 200, DATA), ("GET", "/healthz", 200, DATA), ("GET", "/readyz", 200, DATA),
    ("GET", "/metrics", 200, DATA), ("GET", "/api/v1/runs", 200, DATA), ("GET", "/api/v1/nothing", 404, DATA),
    ("GET", "/nothing", 404, DATA), ("POST", "/api/v1/scalars/a/b", 415, DATA), ("PUT", "/healthz", 405, DATA),
    ("GET", "/api/v1/audit", 200, DATA), ("GET", "/%00", 400, DATA), ("GET", "/tensorboard", 307, DATA),
    ("GET", "/tensorboard/", 200, PAGE | {"content-security-policy": "default-src 'self'"}),
    ("GET", "/tensorboard/index.js", 200, {"content-security-policy": "default-src 'self'"}),
    ("GET", "/tensorboard/data/environment", 200, {"content-security-policy": "default-src 'self'"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "expected"), ROUTES)
def test_headers(service: RunningService, method: str, path: str, status: int, expected: dict[str, str]) -> None:
    answer = service.request(method, path, b"" if method == "POST" else None)
    assert answer.status == status
    for name, beginning in expected.items():
        assert answer.headers[name].startswith(beginning), (name, answer.headers[name])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.search(r"frame-ancestors '(none|self)'", answer.headers["content-security-policy"])
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    assert "strict-transport-security" not in answer.headers  # it came by plain HTTP
    single = [name for name in answer.headers if name.lower() in {*DATA, *PAGE, "x-content-type-options"}]
    assert all(len(answer.headers.getlist(name)) == 1 for name in single)  # type: ignore[attr-defined]


def test_every_route_is_in_the_table_or_like_one_that_is(service: RunningService) -> None:
    """Pages are what needs a policy of its own; every other answer gets the strictest one."""
    pages = {path for path, *_ in [(path, own) for _, path, _, own in ROUTES if "permissions-policy" in own]}
    assert pages == {"/", "/docs", "/tensorboard/"}
    for path in service.app.openapi()["paths"].keys() - {"/api/v1/live"}:  # which would not end
        answer = service.request("GET", path.replace("{run}", "a/b"), headers={"Accept": "text/html"})
        assert answer.headers["content-security-policy"].startswith("default-src 'none'"), path


def test_what_is_refused_before_it_is_a_request_is_marked_too(service: RunningService) -> None:
    head = service.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n").lower()
    assert head.startswith(b"http/1.1 431 ")
    for name in (*DATA, "x-content-type-options", "x-request-id"):
        assert f"\r\n{name}: ".encode() in head, name


def test_streams_and_refused_ones_are_marked_too(start_service: StartService) -> None:
    service = start_service(token=SECRET)
    for headers in ({"Authorization": "Bearer x"}, {"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = service.request("GET", "/api/v1/runs", headers=headers)
        assert answer.status in (401, 403, 421)
        assert {"x-request-id", *DATA} <= {name.lower() for name in answer.headers}
    with listening(service, "", f"Authorization: Bearer {SECRET}") as stream:
        assert "x-request-id: " in stream.head.lower()
    login = service.request("GET", "/", headers={"Authorization": "", "Accept": "text/html"})
    assert login.headers["permissions-policy"].startswith("camera=()")


@pytest.mark.parametrize(("trusted", "kept"), [("127.0.0.0/8", True), ("10.0.0.0/8", False), ("", False)])
def test_an_id_is_taken_over_from_trusted_proxies_only(start_service: StartService, trusted: str, kept: bool) -> None:
    service = start_service(trusted_proxies=trusted)
    answer = service.request("GET", "/healthz", headers={"X-Request-Id": "from-the-proxy_1.2"})
    assert (answer.headers["x-request-id"] == "from-the-proxy_1.2") == kept
    odd = service.request("GET", "/healthz", headers={"X-Request-Id": "a b"})
    assert re.fullmatch(r"[0-9a-f]{16}", odd.headers["x-request-id"])


class Kept(logging.Handler):
    """What would be written, in both forms, as it would be formatted by the thread that logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []
        self.json: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("urllib3"):  # the test's own client
            return
        self.text.append(TextFormatter().format(record))
        self.json.append(JsonFormatter().format(record))


@pytest.fixture
def logged() -> Iterator[Kept]:
    handler, root = Kept(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def test_what_fails_is_logged_under_the_id_that_the_answer_has(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, logged: Kept
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("inner")

    monkeypatch.setattr("tallyboard_server.api.runs.find_runs", broken)
    answer = service.get("/runs")
    request_id = answer.headers["x-request-id"]
    assert answer.json()["request_id"] == request_id
    (line,) = [line for line in logged.text if "ZeroDivisionError: inner" in line]
    assert line.splitlines()[0].endswith(f"request {request_id} failed [{request_id}]")


def test_a_request_is_one_line_of_the_access_log(start_service: StartService, logged: Kept) -> None:
    service = start_service(access_log=True, trusted_proxies="127.0.0.1")
    answer = service.request("GET", "/api/v1/runs/a%0Ab%1B?x=1", headers={"X-Forwarded-For": "192.0.2.7"})
    (line,) = [line for line in logged.text if "tallyboard.access" in line]
    shown = r"GET /api/v1/runs/a%0Ab%1B 400 [\d.]+ s \d+ bytes by \S+ from 192\.0\.2\.7 \[[0-9a-f]+\]$"
    assert re.search(shown, line), line
    fields = json.loads(logged.json[-1])
    assert (fields["status"], fields["bytes"], fields["address"]) == (400, len(answer.body), "192.0.2.7")
    service.report("a/b", {"step": 1, "scalars": {"loss": 0.5}})
    assert (json.loads(logged.json[-1])["path"], json.loads(logged.json[-1])["who"]) == (
        "/api/v1/scalars/a/b", "anybody",
    )  # fmt: skip


def test_it_is_off_unless_asked_for(service: RunningService, logged: Kept) -> None:
    service.request("GET", "/healthz")
    assert not any("tallyboard.access" in line for line in logged.text)


def test_no_secret_is_ever_logged(tmp_path: Path, logged: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0, token=SECRET, access_log=True)
    with serving(settings) as service:
        basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        entered = service.request("POST", "/login", urlencode({"token": SECRET}).encode(), form)
        cookie = entered.headers["set-cookie"].partition(";")[0]
        service.headers.clear()
        for headers in (
            {"Authorization": f"Bearer {SECRET}"}, {"Authorization": f"Basic {basic}"}, {"Cookie": cookie},
            {"Authorization": f"Bearer {SECRET}x"}, {"X-Api-Key": SECRET}, {"Host": SECRET}, {},
        ):  # fmt: skip
            for path in (f"/api/v1/runs?token={SECRET}", f"/?token={SECRET}", f"/tensorboard/?t={SECRET}"):
                service.request("GET", path, headers=headers)
        monkeypatch.setattr("tallyboard_server.api.runs.find_runs", None)  # so that it fails, and is logged
        failed = service.request("GET", f"/api/v1/runs?group={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
        assert failed.status == 500
    written = "\n".join((*logged.text, *logged.json))
    assert "GET /tensorboard/ 200" in written
    assert "TypeError" in written
    assert SECRET not in written
    assert basic not in written
    assert cookie.partition("=")[2] not in written
