"""U+0000 in whatever a client may send: PostgreSQL's text can't hold it, and both engines give the same answer."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tallyboard_server.settings import Settings
from tests.postgres import Postgres
from tests.service import Answer, RunningService, serving

NUL = "a\0b"
RUN = "mnist/lr0.01-seed3"
SENDS = ("/watch:test", "/watch/{project}:test", "/backup", "/live", "/watch")
"""What sends to other addresses, has no such text, or would change what the other requests are answered."""
Request = tuple[str, str, bytes | None]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[tuple[RunningService, ...]]:
    """A service on SQLite and one on PostgreSQL, with the same run."""
    folders = [tmp_path_factory.mktemp(engine) for engine in ("sqlite", "postgres")]
    name = postgres.create_database()
    chosen: list[dict[str, Any]] = [{"data_dir": folder} for folder in folders]
    chosen[1]["database_url"] = postgres.url(name)
    common: dict[str, Any] = {"port": 0, "watchdogs": False, "tensorboard": False}
    with serving(Settings(**chosen[0] | common)) as one, serving(Settings(**chosen[1] | common)) as other:
        for service in (one, other):
            assert service.report(RUN, {"step": 1, "scalars": {"loss": 0.5}}).status == 200
        yield one, other
    postgres.drop_database(name)


def requests(document: dict[str, Any]) -> Iterator[Request]:
    """Every parameter of every route, and every text of every example of a body, with U+0000 in it, one at a time."""
    for path, routes in document["paths"].items():
        for method, route in routes.items():
            if path.removeprefix("/api/v1") in SENDS:
                continue
            there = path.replace("{run}", quote(RUN, safe="")).replace("{project}", "mnist").replace("{id}", "abc")
            parameters = [p for p in route.get("parameters", ()) if p["in"] == "query"]
            for parameter in parameters:
                needed = {p["name"]: example(p) for p in parameters if p.get("required")}
                yield method, f"{there}?{urlencode(needed | {parameter['name']: NUL}, doseq=True)}", None
            body = route.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [e["value"] for e in body.get("examples", {}).values()] or [body["example"]] if body else []
            for found in examples:
                for changed in with_nul(found):
                    yield method, there, json.dumps(changed).encode()


def example(parameter: dict[str, Any]) -> Any:
    """What the document gives for a parameter."""
    found = [e["value"] for e in parameter.get("examples", {}).values()]
    return found[0] if found else parameter.get("example", parameter["schema"].get("example", "1"))


def with_nul(document: Any) -> Iterator[Any]:
    """The document with U+0000 in one of its texts or names."""
    match document:
        case str():
            yield NUL
        case list():
            for i, item in enumerate(document):
                yield from ([*document[:i], changed, *document[i + 1 :]] for changed in with_nul(item))
        case dict():
            for name, item in document.items():
                yield from (document | {name: changed} for changed in with_nul(item))
                yield {(NUL if key == name else key): value for key, value in document.items()}
        case _:
            pass


def test_both_engines_answer_alike(services: tuple[RunningService, ...]) -> None:
    document = services[0].request("GET", "/openapi.json").json()
    asked, unlike = set(), []
    for method, path, body in requests(document):
        headers = {"Content-Type": "application/json"}
        answers = [service.request(method.upper(), path, body, headers) for service in services]
        asked.add(f"{method} {path.partition('?')[0]}")
        told = [(answer.status, code_of(answer)) for answer in answers]
        if told[0] != told[1] or told[0][0] >= 500:
            unlike.append((method, path, body, told))
    assert unlike == []
    assert len(asked) >= 20


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PATCH", f"/runs/{RUN}", {"notes": NUL}, "$.notes"),
        ("PATCH", f"/runs/{RUN}", {"display_name": NUL}, "$.display_name"),
        ("PATCH", f"/runs/{RUN}", {"group": NUL}, "$.group"),
        ("PATCH", f"/runs/{RUN}", {"tags": [NUL]}, "$.tags"),
        ("PUT", "/runs/new/one", {"notes": NUL}, "$.notes"),
        ("PUT", "/runs/new/one", {"group": NUL}, "$.group"),
        ("POST", "/scalars/new/one", {"producer": "p", "seq": 1, "open": {"group": NUL}}, "$.open.group"),
        ("POST", "/tokens", {"scope": "read", "name": NUL}, "$.name"),
    ],
)
def test_text_of_its_own_column_is_refused(
    services: tuple[RunningService, ...], method: str, path: str, body: Any, field: str
) -> None:
    for service in services:
        answer = service.send(method, path, body)
        assert (answer.status, answer.json()["code"], answer.json()["field"]) == (422, "invalid_body", field)


def test_in_documents_it_is_kept(services: tuple[RunningService, ...]) -> None:
    changes = {"config": {NUL: [NUL]}, "summary": {"best": NUL}}
    alert = {"title": "look", "text": NUL}
    for service in services:
        assert service.report("of/documents", {"step": 1, "scalars": {"loss": 0.5}}).status == 200
        assert service.send("PATCH", "/runs/of/documents", changes).status == 200
        assert service.report("of/documents", {"alerts": [alert]}).status == 200
        rewind = {"next_steps": {"global_step": 2}, "reason": NUL}
        assert service.report("of/documents", {"rewind": rewind}).status == 200
        shown = service.get("/runs/of/documents").json()
        assert (shown["config"], shown["summary"]) == (changes["config"], changes["summary"])
        assert service.get("/alerts/of/documents").json()["alerts"][0]["text"] == NUL
        (rewound,) = service.get("/audit?action=run.rewind&run=of/documents").json()["entries"]
        assert rewound["detail"]["reason"] == NUL


def test_a_copy_is_made_by_the_means_of_the_database(services: tuple[RunningService, ...]) -> None:
    told = [(answer.status, code_of(answer)) for answer in (service.get("/backup") for service in services)]
    assert told == [(200, None), (501, "backup_elsewhere")]


def code_of(answer: Answer) -> str | None:
    """The code of a problem."""
    is_problem = answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["code"]) if is_problem else None
