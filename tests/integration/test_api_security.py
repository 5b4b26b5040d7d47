"""Who may ask: token, Host, Origin, and what a response carries."""

import base64
from pathlib import Path

import pytest
from starlette.routing import Mount, Route

from tests.conftest import StartService
from tests.service import RunningService

TOKEN = "s3cret-token"


@pytest.fixture
def protected(start_service: StartService) -> RunningService:
    running = start_service(token=TOKEN)
    running.headers.clear()
    return running


def paths_of(service: RunningService) -> list[tuple[str, str]]:
    """(method, path) of every route that the app has, documented or not."""
    found = []
    for path, operations in service.app.openapi()["paths"].items():
        found += [(method.upper(), path.replace("{run}", "a/b")) for method in operations]
    for route in service.app.routes:
        if isinstance(route, Route) and "{" not in route.path:
            found.append(("GET", route.path))
        elif isinstance(route, Mount):
            found.append(("GET", f"{route.path}/swagger-ui.css"))
    return [*found, ("GET", "/"), ("GET", "/no/such/route"), ("OPTIONS", "/api/v1/runs")]


def test_the_token_protects_every_route_but_healthz(protected: RunningService) -> None:
    asked = paths_of(protected)
    assert len(asked) > 15
    for method, path in asked:
        answer = protected.request(method, path)
        expected = 200 if path == "/healthz" else 401
        assert answer.status == expected, (method, path)
        if expected == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert answer.json()["code"] == "unauthorized"
            assert "TALLYBOARD_TOKEN" in answer.json()["detail"]
    protected.headers["Authorization"] = f"Bearer {TOKEN}"
    assert protected.get("/runs").json()["runs"] == []


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(("authorization", "status"), [
    (f"Bearer {TOKEN}", 200), (f"bearer {TOKEN}", 200), (f"BEARER   {TOKEN}", 200),
    (basic("", TOKEN), 200), (basic("anybody", TOKEN), 200),
    (f"Bearer {TOKEN}x", 401), (f"Bearer {TOKEN[:-1]}", 401), ("Bearer", 401), ("Bearer ", 401), (TOKEN, 401),
    (basic(TOKEN, ""), 401), ("Basic ?", 401), ("Basic", 401), ("Digest x", 401), ("Bearer tökén", 401),
])  # fmt: skip
def test_authorization(protected: RunningService, authorization: str, status: int) -> None:
    answer = protected.request(
        "GET", "/api/v1/runs", headers={"Authorization": authorization.encode("latin-1").decode("latin-1")}
    )
    assert answer.status == status


@pytest.mark.parametrize(("host", "status"), [
    ("localhost", 200), ("localhost:6007", 200), ("LOCALHOST:1", 200), ("localhost.:80", 200), ("127.0.0.1", 200),
    ("[::1]:6007", 200), ("tally.example", 200), ("tally.example:8443", 200),
    ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421),
    ("evil.example:6007", 421), ("0.0.0.0", 421),
])  # fmt: skip
def test_on_loopback_the_host_must_be_one_of_ours(start_service: StartService, host: str, status: int) -> None:
    service = start_service(allowed_hosts="tally.example, other.example")
    answer = service.request("GET", "/api/v1/runs", headers={"Host": host})
    assert answer.status == status
    if status == 421:
        assert answer.json()["code"] == "forbidden_host"


def raw_get(service: RunningService, *headers: str) -> bytes:
    lines = ["GET /api/v1/runs HTTP/1.1", *headers, "Connection: close", "", ""]
    return service.raw("\r\n".join(lines).encode())


def test_no_host_or_two_are_refused(service: RunningService) -> None:
    assert raw_get(service, "Host: localhost").startswith(b"HTTP/1.1 200")
    assert not raw_get(service).startswith(b"HTTP/1.1 200")
    assert not raw_get(service, "Host: localhost", "Host: evil.example").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("origin", "status"), [
    ("http://localhost:{port}", 200), ("https://tally.example", 200), ("https://tally.example:8443", 200),
    ("http://localhost:3000", 403), ("http://localhost", 403), ("https://evil.example", 403), ("null", 403), ("", 403),
    ("http://tally.example.evil.example", 403),
])  # fmt: skip
def test_another_sites_page_may_not_ask(start_service: StartService, origin: str, status: int) -> None:
    service = start_service(allowed_hosts="tally.example")
    headers = {"Host": f"localhost:{service.port}", "Origin": origin.format(port=service.port)}
    body = b'{"step": 1, "scalars": {"loss": 0.5}}'
    answer = service.request("POST", "/api/v1/scalars/a/b", body, headers | {"Content-Type": "application/json"})
    assert answer.status == status
    assert (service.get("/runs/a/b").status == 200) == (status == 200)
    if status == 403:
        assert answer.json()["code"] == "forbidden_origin"


@pytest.mark.parametrize(("site", "wanted_as", "status"), [
    ("same-origin", "empty", 200), ("none", "document", 200), ("cross-site", "document", 200),
    ("same-site", "document", 200), ("cross-site", "image", 403), ("same-site", "script", 403),
    ("cross-site", "iframe", 403), ("cross-site", "empty", 403),
])  # fmt: skip
def test_another_sites_page_may_only_link(service: RunningService, site: str, wanted_as: str, status: int) -> None:
    """Neither has an Origin: a GET that a page makes by an image, and one by a link that somebody follows."""
    answer = service.get("/runs", {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": wanted_as})
    assert answer.status == status
    assert (answer.json().get("code") == "forbidden_origin") == (status == 403)


def test_off_loopback_any_host_goes_unless_names_are_set(start_service: StartService, tmp_path: Path) -> None:
    open_service = start_service(host="0.0.0.0", token=TOKEN)
    assert open_service.request("GET", "/api/v1/runs", headers={"Host": "gpu-box:6007"}).status == 200
    named = start_service(host="0.0.0.0", token=TOKEN, allowed_hosts="tally.example", data_dir=tmp_path / "named")
    assert named.request("GET", "/api/v1/runs", headers={"Host": "gpu-box:6007"}).status == 421
    assert named.request("GET", "/api/v1/runs", headers={"Host": "tally.example"}).status == 200


def test_the_docs_come_from_here(service: RunningService) -> None:
    page = service.request("GET", "/docs").body.decode()
    assert "https://" not in page.replace(service.url, "")
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert asset in page
        assert service.request("GET", f"/docs-assets/{asset}").status == 200


def test_a_token_never_shows(start_service: StartService) -> None:
    service = start_service(token=TOKEN)
    assert TOKEN not in repr(service.parts.settings)
    for path in ("/", "/metrics", "/readyz", "/openapi.json"):
        assert TOKEN.encode() not in service.request("GET", path).body
