"""Browsers and the token: the login page, the cookie, where it counts, and what can't be done with it."""

import re
import socket
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tallyboard_server.access import SESSION_S, TRIES_MAX, TRIES_S
from tallyboard_server.settings import Settings
from tests.conftest import StartService
from tests.service import Answer, RunningService, read_response, serving, until
from tests.sse import listening

TOKEN = "s3cret-token"
HTML = {"Accept": "text/html,application/xhtml+xml"}
LINKED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
"""What a browser says of a link on another site that somebody follows."""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data"), port=0, token=TOKEN)) as running:
        running.report("a/b", {"step": 1, "scalars": {"loss": 1.0}})
        running.headers.clear()
        yield running


@pytest.fixture(autouse=True)
def _no_tries_yet(protected: RunningService) -> None:
    protected.parts.access.tries._wrong.clear()
    protected.parts.access.wrong_tokens._wrong.clear()


def log_in(service: RunningService, token: str = TOKEN, then: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = urlencode({"username": "tallyboard", "token": token, "next": then}).encode()
    return service.request("POST", "/login", body, HTML | FORM | named)


def cookie_of(answer: Answer) -> dict[str, str]:
    """The Cookie header that a browser sends after an answer."""
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_the_first_page_is_the_login_page(protected: RunningService) -> None:
    answer = protected.request("GET", "/?runs=a%2F*&x=%22step", headers=HTML)
    page = answer.body.decode()
    assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert 'method="post" action="login"' in page
    assert 'name="next" value="?runs=a%2F*&amp;x=%22step"' in page
    assert 'role="alert"' not in page
    for word in ("<script", "http:", "https:", " src=", " href="):
        assert word not in page
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"


def test_the_token_is_given_once(protected: RunningService) -> None:
    answer = log_in(protected)
    assert (answer.status, answer.headers["location"]) == (303, "./")
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert morsel.key.startswith("tallyboard_")
    assert (morsel["path"], morsel["httponly"], morsel["secure"]) == ("/", True, "")
    assert morsel["samesite"].lower() == "strict"
    assert float(morsel["max-age"]) == SESSION_S
    assert TOKEN not in answer.headers["set-cookie"]
    assert protected.request("GET", "/", headers=HTML | cookie_of(answer)).status == 200
    assert protected.get("/runs", cookie_of(answer)).json()["runs"][0]["run"] == "a/b"


ROUTES = [
    ("GET", "/", 200), ("GET", "/docs", 200), ("GET", "/docs-assets/swagger-ui.css", 200), ("GET", "/metrics", 200),
    ("GET", "/openapi.json", 200), ("GET", "/readyz", 200), ("GET", "/tensorboard/", 200),
    ("GET", "/tensorboard/data/runs", 200), ("GET", "/tensorboard/index.js", 200), ("GET", "/api/v1/runs", 200),
    ("GET", "/api/v1/service", 200), ("GET", "/api/v1/tags?run=*", 200), ("GET", "/api/v1/no/such", 404),
    ("POST", "/api/v1/query", 415), ("POST", "/api/v1/scalars/a/b", 415), ("PATCH", "/api/v1/runs/a/b", 415),
    ("DELETE", "/api/v1/runs/a/no", 404), ("PUT", "/api/v1/runs/a/b", 200), ("HEAD", "/tensorboard/", 200),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
def test_the_cookie_counts_wherever_the_header_does(
    protected: RunningService, method: str, path: str, status: int
) -> None:
    body = b"" if method in ("POST", "PATCH", "PUT") else None
    sent = {"Content-Type": "text/x-nothing"} if method in ("POST", "PATCH") else {}
    cookie = cookie_of(log_in(protected))
    ways: list[tuple[dict[str, str], int]] = [
        ({"Authorization": f"Bearer {TOKEN}"}, status), (cookie, status), ({}, 401),
        ({"Cookie": f"{cookie['Cookie']}0"}, 401), ({"Cookie": cookie["Cookie"].replace("=", "=9")}, 401),
        ({"Cookie": f"tallyboard={TOKEN}"}, 401), (cookie | {"Authorization": "Bearer wrong"}, 401),
    ]  # fmt: skip
    for headers, expected in ways:
        answer = protected.request(method, path, body, headers | sent)
        assert answer.status == expected, (headers, answer.body)


def test_another_sites_page_can_do_nothing_with_it(protected: RunningService) -> None:
    cookie = cookie_of(log_in(protected))
    evil = {"Host": f"localhost:{protected.port}", "Origin": "https://evil.example"}
    for method, path in (("POST", "/api/v1/query"), ("DELETE", "/api/v1/runs/a/b"), ("GET", "/api/v1/runs"),
                         ("POST", "/login"), ("POST", "/logout"), ("GET", "/")):  # fmt: skip
        answer = protected.request(method, path, headers=cookie | evil)
        assert (answer.status, answer.json()["code"]) == (403, "forbidden_origin"), path
        answer = protected.request(method, path, headers=cookie | {"Host": "evil.example"})
        assert answer.status == 421, path
    own = {"Host": f"localhost:{protected.port}", "Origin": f"http://localhost:{protected.port}"}
    assert log_in(protected, **own).status == 303
    assert protected.get("/runs", cookie | own).status == 200


@pytest.mark.parametrize(("path", "location"), [
    ("/docs", "login?next=docs"), ("/tensorboard", "login?next=tensorboard%2F"),
    ("/tensorboard/", "../login?next=tensorboard%2F"),
])  # fmt: skip
def test_pages_lead_to_the_login_and_back(protected: RunningService, path: str, location: str) -> None:
    answer = protected.request("GET", path, headers=HTML)
    assert (answer.status, answer.headers["location"]) == (303, location)
    shown = protected.request("GET", f"/{location.removeprefix('../')}", headers=HTML)
    assert shown.status == 200
    then = re.findall(r'name="next" value="([^"]*)"', shown.body.decode())[0]
    back = log_in(protected, then=then)
    assert back.headers["location"] == f"./{then}"
    cookie = cookie_of(back)
    assert protected.request("GET", f"/{then}", headers=HTML | cookie).status == 200
    already = protected.request("GET", f"/{location.removeprefix('../')}", headers=HTML | cookie)
    assert (already.status, already.headers["location"]) == (303, f"./{then}")


def test_programs_are_answered_as_ever(protected: RunningService) -> None:
    for path in ("/", "/docs", "/tensorboard/", "/api/v1/runs"):
        answer = protected.request("GET", path, headers={"Accept": "*/*"})
        assert (answer.status, answer.json()["code"]) == (401, "unauthorized")
    answer = protected.request("GET", "/api/v1/runs", headers=HTML)
    assert (answer.status, answer.json()["code"]) == (401, "unauthorized")
    response = protected.pool.request("GET", f"{protected.url}/tensorboard/index.js", headers=HTML)
    assert [line.split()[0] for line in response.headers.getlist("www-authenticate")] == ["Bearer", "Basic"]


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example/", "/\\evil.example", "..", "javascript:1"])
def test_a_login_never_leads_elsewhere(protected: RunningService, then: str) -> None:
    assert log_in(protected, then=then).headers["location"] == "./"
    shown = protected.request("GET", f"/login?{urlencode({'next': then})}", headers=HTML).body.decode()
    assert 'name="next" value=""' in shown


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "tökén", "x" * 10_000])
def test_a_wrong_token_is_told(protected: RunningService, token: str) -> None:
    answer = log_in(protected, token, then='docs"><script>')
    page = answer.body.decode()
    assert (answer.status, "set-cookie" in answer.headers) == (401, False)
    assert "The token is wrong" in page
    assert 'role="alert"' in page
    assert "<script" not in page
    assert token not in page or len(token) < 6


@pytest.mark.parametrize("body", [
    b"", b"\xff", b"token", b"token=%ff;", b"a=1&" * 20 + b"token=x", b"token=" + b"x" * 17_000,
])  # fmt: skip
def test_what_is_no_form_is_told(protected: RunningService, body: bytes) -> None:
    answer = protected.request("POST", "/login", body, HTML | FORM)
    assert answer.status in (400, 401)
    assert b"<form" in answer.body


def test_a_form_that_dawdles_takes_nobodys_place(protected: RunningService) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", protected.port), 10) as slow:
        slow.sendall(head)
        assert slow.recv(100).startswith(b"HTTP/1.1 100 "), "the form is waited for"
        assert until(lambda: protected.parts.traffic.in_flight == 0)
        slow.sendall(b"token=bad")
        assert read_response(slow).startswith(b"HTTP/1.1 401")


def test_after_some_wrong_tokens_one_has_to_wait(protected: RunningService) -> None:
    for _ in range(TRIES_MAX):
        assert log_in(protected, "wrong").status == 401
    for token in ("wrong", TOKEN):
        answer = log_in(protected, token)
        assert answer.status == 429
        assert 1 <= int(answer.headers["retry-after"]) <= TRIES_S
        assert "Too many wrong tokens" in answer.body.decode()
    assert protected.get("/runs", {"Authorization": f"Bearer {TOKEN}"}).status == 200


def test_logging_out_takes_the_cookie_back(protected: RunningService) -> None:
    cookie = cookie_of(log_in(protected))
    answer = protected.request("POST", "/logout", b"", cookie)
    assert (answer.status, answer.headers["location"]) == (303, "./")
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (morsel.value, morsel["max-age"], morsel["path"]) == ("", "0", "/")
    assert protected.request("GET", "/logout", headers=cookie).status == 405


@pytest.mark.parametrize(("trusted", "headers", "secure"), [
    ("127.0.0.1", {"X_Forwarded_Proto": "https"}, True), ("127.0.0.1", {"X_Forwarded_Proto": "http"}, False),
    ("", {"X_Forwarded_Proto": "https"}, False), ("", {"Origin": "https://tally.example"}, True),
])  # fmt: skip
def test_by_https_the_cookie_goes_by_https_only(
    start_service: StartService, trusted: str, headers: dict[str, str], secure: bool
) -> None:
    service = start_service(token=TOKEN, allowed_hosts="tally.example", trusted_proxies=trusted)
    service.headers.clear()
    assert ("Secure" in log_in(service, **headers).headers["set-cookie"]) == secure


def test_below_a_proxys_path_everything_stays_there(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0, token=TOKEN, root_path="/tally")
    with serving(settings) as service:
        service.headers.clear()
        assert b'action="login"' in service.request("GET", "/", headers=HTML).body
        answer = service.request("GET", "/tensorboard/", headers=HTML)
        assert answer.headers["location"] == "../login?next=tensorboard%2F"
        entered = log_in(service)
        assert "Path=/tally/" in entered.headers["set-cookie"]
        assert service.request("GET", "/", headers=HTML | cookie_of(entered)).status == 200
        assert service.request("GET", "/healthz").status == 200


def test_a_link_of_another_site_asks_once_more(protected: RunningService) -> None:
    asked = protected.request("GET", "/?x=1", headers=HTML | LINKED)
    assert b'http-equiv="refresh"' in asked.body
    once = cookie_of(asked)
    assert "SameSite=lax" in asked.headers["set-cookie"]
    again = protected.request("GET", "/?x=1", headers=HTML | LINKED | once)
    assert b"<form" in again.body


def test_streams_go_with_the_cookie_too(protected: RunningService) -> None:
    cookie = cookie_of(log_in(protected))
    with listening(protected, "", f"Cookie: {cookie['Cookie']}") as stream:
        assert stream.event()[0] == "hello"
    with listening(protected) as stream:
        assert "401" in stream.head.splitlines()[0]


def test_without_a_token_there_is_nothing_to_give(service: RunningService) -> None:
    for method, path in (("GET", "/login?next=docs"), ("POST", "/login"), ("POST", "/logout")):
        answer = service.request(method, path, b"" if method == "POST" else None, HTML)
        assert (answer.status, answer.headers["location"][:2]) == (303, "./")
        assert "set-cookie" not in answer.headers
