"""The dashboard's files: served as they were built, cached as they may be, and nothing beside them."""

import gzip
from pathlib import Path

import pytest

from tests.conftest import StartService
from tests.service import RunningService

INDEX = b'<!doctype html><script type="module" src="./assets/index-abc.js"></script>'
SCRIPT = b"console.log('tally')" * 100


@pytest.fixture
def page(start_service: StartService, tmp_path: Path) -> RunningService:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_bytes(INDEX)
    (static / "icon.svg").write_text("<svg/>")
    (static / "assets" / "index-abc.js").write_bytes(SCRIPT)
    (static / "assets" / "index-abc.js.gz").write_bytes(gzip.compress(SCRIPT))
    (static / "assets" / "index-abc.js.br").write_bytes(b"as brotli")
    (static / "assets" / "plain-def.css").write_text("a{}")
    (tmp_path / "secret.txt").write_text("secret")
    (static / "assets" / "leak.txt").symlink_to(tmp_path / "secret.txt")
    return start_service(static=static)


def test_the_page_is_there_and_bound_to_itself(page: RunningService) -> None:
    answer = page.request("GET", "/")
    assert (answer.status, answer.body) == (200, INDEX)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data: blob:",
        "connect-src": "'self'", "font-src": "'self'", "base-uri": "'none'", "form-action": "'self'",
        "frame-ancestors": "'none'",
    }  # fmt: skip
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = page.request("GET", "/", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    icon = page.request("GET", "/icon.svg")
    assert (icon.status, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert icon.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(("accepted", "encoding", "body"), [
    ("gzip, deflate, br, zstd", "br", b"as brotli"), ("gzip;q=0.5", "gzip", None), ("br;q=0, gzip", "gzip", None),
    ("", "", SCRIPT), ("identity", "", SCRIPT), ("brx", "", SCRIPT),
])  # fmt: skip
def test_assets_come_as_they_were_compressed(
    page: RunningService, accepted: str, encoding: str, body: bytes | None
) -> None:
    response = page.pool.request(
        "GET", f"{page.url}/assets/index-abc.js", headers={"Accept-Encoding": accepted}, decode_content=False
    )
    assert (response.status, response.headers.get("content-encoding", "")) == (200, encoding)
    assert response.data == body if body is not None else gzip.decompress(response.data) == SCRIPT
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", [
    "/assets/no.js", "/assets/", "/assets", "/assets/../index.html", "/assets/%2e%2e/index.html", "/index.html",
    "/assets/..%2f..%2fsecret.txt", "/assets//etc/passwd", "/assets/leak.txt", "/secret.txt", "/icon.svg/", "/icon",
    "/assets/%00", "/assets/index-abc.js/x",
])  # fmt: skip
def test_nothing_else_is_there(page: RunningService, path: str) -> None:
    answer = page.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.split()[1] in (b"404", b"400", b"405"), answer
    assert b"secret" not in answer.partition(b"\r\n\r\n")[2].replace(b"secret.txt", b"")


def test_files_are_not_written_to(page: RunningService) -> None:
    for path in ("/assets/index-abc.js", "/icon.svg", "/"):
        assert page.request("POST", path, b"x").status == 405


def test_a_page_that_is_built_meanwhile_is_there(start_service: StartService, tmp_path: Path) -> None:
    static = tmp_path / "static"
    service = start_service(static=static)
    assert b"The dashboard is not built" in service.request("GET", "/").body
    assert service.request("GET", "/assets/a-b.css").status == 404
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_bytes(INDEX)
    (static / "assets" / "a-b.css").write_text("a{}")
    assert service.request("GET", "/").body == INDEX
    assert service.request("GET", "/assets/a-b.css").headers["content-type"] == "text/css; charset=utf-8"


def test_the_service_says_what_it_is(start_service: StartService) -> None:
    service = start_service(token="s3cret-token", tensorboard=False)
    found = service.get("/service").json()
    assert found["logdir"] == str(service.logdir.resolve())
    assert (found["tensorboard"], found["protected"], found["lost_after_s"]) == (False, True, 300.0)
    assert found["boot"] == service.parts.live.boot
    assert service.get("/service?x=1").status == 422
