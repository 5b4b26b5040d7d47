"""Who may do what: every route × token × own and foreign project, made from the routes themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from tallyboard.wire import JSON
from tallyboard_server.api.authorise import Protected, check_complete
from tallyboard_server.api.documented import ALL_PROJECTS, NEEDS
from tallyboard_server.api.routes import ROUTERS
from tallyboard_server.app import create_app
from tallyboard_server.principal import SCOPES, Scope
from tallyboard_server.settings import Settings
from tests.access_kit import FOREIGN, OWN, Guarded, bearer, guarded
from tests.service import Answer

API = "/api/v1"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Known:
    """A route as the app has it: what it needs, and whether it is about the whole service."""

    method: str
    path: str
    needs: Scope | None
    all_projects: bool


@dataclass(frozen=True)
class Example:
    """A request to a route that changes nothing for the others, and how it is answered if it is let through.

    url: {project} stands for a project's name, below the route's path unless it begins with a slash.
    """

    status: int
    query: str = ""
    body: Any = None
    content_type: str = JSON
    run: str = "run"
    paths: tuple[str, ...] = ()
    """In the place of the route's own, if it is a Mount or has parameters of other names."""


UNTAKEN: Any = {"body": b"{}", "content_type": "text/x-nothing"}
EXAMPLES: dict[tuple[str, str], Example] = {
    ("POST", f"{API}/scalars/{{run:path}}"): Example(200, body={"step": 1, "scalars": {"loss": 1.0}}),
    ("PUT", f"{API}/runs/{{run:path}}"): Example(200, body=b""),
    ("GET", f"{API}/runs"): Example(200),
    ("GET", f"{API}/runs/{{run:path}}"): Example(200),
    ("PATCH", f"{API}/runs/{{run:path}}"): Example(200, body={"notes": "seen"}),
    ("DELETE", f"{API}/runs/{{run:path}}"): Example(404, run="none"),
    ("POST", f"{API}/rewind/{{run:path}}"): Example(200, body={"next_steps": {"other": 0}, "id": "once"}),
    ("POST", f"{API}/heartbeat/{{run:path}}"): Example(200, body=b""),
    ("GET", f"{API}/refused/{{run:path}}"): Example(200),
    ("POST", f"{API}/alerts/{{run:path}}"): Example(200, body={"title": "look"}),
    ("GET", f"{API}/alerts/{{run:path}}"): Example(200),
    ("POST", f"{API}/events/{{run:path}}"): Example(415, **UNTAKEN),
    ("GET", f"{API}/blobs/{{run:path}}"): Example(404, "tag=none"),
    ("GET", f"{API}/scalars"): Example(200, "run={project}/run"),
    ("POST", f"{API}/query"): Example(200, body={"runs": ["*"]}),
    ("GET", f"{API}/live"): Example(422, "odd=1"),
    ("GET", f"{API}/tags"): Example(200, "run=*"),
    ("POST", f"{API}/tags"): Example(200, body={"runs": ["*"]}),
    ("GET", f"{API}/columns"): Example(200),
    ("GET", f"{API}/service"): Example(200),
    ("GET", f"{API}/export/{{run:path}}"): Example(200),
    ("GET", f"{API}/verify/{{run:path}}"): Example(200),
    ("POST", f"{API}/repair/{{run:path}}"): Example(415, **UNTAKEN),
    ("POST", f"{API}/prune/{{run:path}}"): Example(200, body={"superseded": True}),
    ("GET", f"{API}/backup"): Example(200),
    ("POST", f"{API}/tokens"): Example(422, body={"scope": "read", "rate": -1}),
    ("GET", f"{API}/tokens"): Example(200),
    ("DELETE", f"{API}/tokens/{{id}}"): Example(404, paths=(f"{API}/tokens/nobody",)),
    ("GET", f"{API}/audit"): Example(200),
    ("GET", f"{API}/incidents"): Example(200),
    ("GET", f"{API}/watch"): Example(200),
    ("PUT", f"{API}/watch"): Example(422, body={"odd": 1}),
    ("DELETE", f"{API}/watch"): Example(204),
    ("POST", f"{API}/watch:test"): Example(404, body=b""),
    ("GET", f"{API}/watch/{{project:path}}"): Example(200),
    ("PUT", f"{API}/watch/{{project:path}}"): Example(422, body={"odd": 1}),
    ("DELETE", f"{API}/watch/{{project:path}}"): Example(204),
    ("POST", f"{API}/watch/{{project:path}}:test"): Example(404, body=b""),
    ("GET", "/healthz"): Example(200),
    ("GET", "/readyz"): Example(200),
    ("GET", "/metrics"): Example(200),
    ("GET", "/"): Example(200),
    ("GET", "/login"): Example(200),
    ("POST", "/login"): Example(400, body=b"\xff", content_type=FORM),
    ("POST", "/logout"): Example(303, body=b"", content_type=FORM),
    ("GET", "/docs"): Example(200),
    ("GET", "/openapi.json"): Example(200),
    ("MOUNT", "/docs-assets"): Example(200, paths=("/docs-assets/swagger-ui.css",)),
    ("GET", "/tensorboard"): Example(307),
    ("GET", "/font-roboto/{name}"): Example(307, paths=("/font-roboto/x.woff2",)),
    ("MOUNT", "/tensorboard"): Example(200, paths=(
        "/tensorboard/", "/tensorboard/index.js", "/tensorboard/data/runs", "/tensorboard/data/plugins_listing",
        "/tensorboard/data/plugin/scalars/tags", "/tensorboard/data/environment",
    )),
    ("GET", "/icon.svg"): Example(200),
    ("MOUNT", "/assets"): Example(200, paths=("/assets/index.js",)),
}  # fmt: skip
"""By method and path: a route without an example here fails the test."""


def every_route(app: FastAPI) -> Iterator[Known]:
    """All routes of the app: those of its routers, its own, those that the docs and the page's files are."""
    included = ((prefix, route) for prefix, router in ROUTERS for route in router.routes)
    own = (("", route) for route in app.routes if isinstance(route, Route | Mount))
    for prefix, route in (*included, *own):
        assert isinstance(route, Route | Mount)
        path = prefix + route.path
        if isinstance(route, APIRoute):
            extra = route.openapi_extra
            assert extra is not None, path
            for method in route.methods or ():
                yield Known(method, path, extra[NEEDS], bool(extra.get(ALL_PROJECTS)))
        else:
            assert isinstance(route.app, Protected), path
            methods = {"MOUNT"} if isinstance(route, Mount) else (route.methods or set()) - {"HEAD"}
            for method in methods:
                yield Known(method, path, route.app.needs, all_projects=False)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    (folder / "assets").mkdir()
    for name in ("index.html", "icon.svg", "assets/index.js"):
        (folder / name).write_text("<p>")
    return folder


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, static: Path) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("data"), static=static) as found:
        found.service.headers |= bearer(found.whole["admin"])
        for project in (OWN, FOREIGN):
            assert found.service.report(f"{project}/run", {"step": 1, "scalars": {"loss": 1.0}}).status == 200
        found.service.headers.clear()
        yield found


@pytest.fixture(scope="module")
def useless(there: Guarded) -> list[dict[str, str]]:
    """Headers that let nobody in."""
    revoked_id, revoked = there.make("admin")
    there.service.parts.access.revoke(revoked_id, by=there_admin(there))
    _, expired = there.make("admin", expires_s=1e-6)
    return [{}, bearer(revoked), bearer(expired), bearer("tb_0000000000_" + "A" * 43)]


def there_admin(there: Guarded) -> Any:
    return there.service.parts.access.of_token(there.whole["admin"].encode(), "")


@pytest.fixture(autouse=True)
def _no_tries_yet(there: Guarded) -> None:
    there.forget_tries()


def ask(there: Guarded, known: Known, url: str, project: str, headers: dict[str, str]) -> Answer:
    example = EXAMPLES[known.method, known.path]
    path = url.replace("{run:path}", f"{project}/{example.run}").replace("{project:path}", project)
    query = f"?{example.query.format(project=project)}" if example.query else ""
    data = example.body if isinstance(example.body, bytes | None) else msgspec.json.encode(example.body)
    sent = {"Content-Type": example.content_type} if data is not None else {}
    method = "GET" if known.method == "MOUNT" else known.method
    return there.service.request(method, f"{path}{query}", data, headers | sent)


def urls(known: Known) -> tuple[str, ...]:
    return EXAMPLES[known.method, known.path].paths or (known.path,)


def test_every_route_has_an_example(there: Guarded) -> None:
    routes = {(known.method, known.path) for known in every_route(there.service.app)}
    assert routes == set(EXAMPLES), "say in EXAMPLES how the new route is asked; it needs what it declares"


def routes_of_a_service() -> list[Known]:
    """Without the page's files, which are wherever it was built."""
    made = create_app(Settings(data_dir=Path("unused")), static=Path("nowhere")).fastapi
    page = Known("GET", "/icon.svg", "read", all_projects=False)
    return [*dict.fromkeys(known for known in every_route(made) if (known.method, known.path) in EXAMPLES), page]


@pytest.mark.parametrize("known", routes_of_a_service(), ids=lambda known: f"{known.method} {known.path}")
def test_it_is_answered_to_whom_it_should_be(there: Guarded, useless: list[dict[str, str]], known: Known) -> None:
    expected = EXAMPLES[known.method, known.path].status
    about_one = any(name in known.path for name in ("{run:path}", "{project:path}"))
    for url in urls(known):
        for headers in useless:
            status = ask(there, known, url, OWN, headers).status
            assert status == (expected if known.needs is None else 401), (url, headers)
        there.forget_tries()
        for scope in SCOPES:
            enough = known.needs is None or SCOPES.index(scope) >= SCOPES.index(known.needs)
            for project in (OWN, FOREIGN):
                whole = ask(there, known, url, project, bearer(there.whole[scope]))
                assert whole.status == (expected if enough else 403), (url, scope, project, whole.body)
                own = ask(there, known, url, project, bearer(there.own[scope]))
                reached = not known.all_projects and not (about_one and project == FOREIGN)
                assert own.status == (expected if enough and reached else 403), (url, scope, project, own.body)
                if own.status == 403:
                    code = "forbidden_run" if enough and about_one and not known.all_projects else "forbidden"
                    assert own.json()["code"] == code, (url, scope, project)


@pytest.mark.parametrize("known", [k for k in routes_of_a_service() if "{run:path}" in k.path],
                         ids=lambda known: f"{known.method} {known.path}")  # fmt: skip
def test_whether_a_foreign_run_exists_can_not_be_learnt(there: Guarded, known: Known) -> None:
    answers = []
    for name in ("run", "nobodys-run"):
        url = known.path.replace("{run:path}", f"{FOREIGN}/{name}")
        there_is = ask(there, known, url, FOREIGN, bearer(there.own["admin"]))
        answers.append((there_is.status, there_is.body.replace(f"{FOREIGN}/{name}".encode(), b"")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 403


def test_an_app_with_a_route_that_does_not_say_what_it_needs_does_not_start() -> None:
    async def nothing() -> None:
        """Answers nothing."""

    ways: tuple[Callable[[FastAPI], None], ...] = (
        lambda app: app.add_api_route("/new", nothing),
        lambda app: app.router.routes.append(Route("/new", nothing)),
        lambda app: app.mount("/new", FastAPI()),
    )
    for add in ways:
        app = create_app(Settings(data_dir=Path("unused"))).fastapi
        add(app)
        with pytest.raises(TypeError, match="does not say what it needs"):
            check_complete(app, ())
