"""The API's documentation: complete, true to the answers, and every example works."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from tallyboard.wire import JSON, MSGPACK
from tallyboard_server.api import examples
from tallyboard_server.api.documented import EVERYWHERE, OPEN
from tallyboard_server.api.events import TFRECORDS
from tallyboard_server.api.problems import HTTP_KINDS, KINDS
from tallyboard_server.api.routes import ROUTERS, described_routes
from tests.conftest import StartService
from tests.service import Answer, RunningService
from tests.sse import listening
from tests.webhooks import receiving

PROBLEM_JSON = "application/problem+json"
METHODS = ("put", "get", "post", "patch", "delete")


@pytest.fixture(scope="module")
def document(service: RunningService) -> Any:
    return service.request("GET", "/openapi.json").json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            assert method in METHODS
            yield method, path, operation


def test_every_route_of_the_app_is_documented(document: Any) -> None:
    documented = {(method.upper(), path) for method, path, _ in operations(document)}
    served = {(method, path) for path, route in described_routes() for method in route.methods or ()}
    assert documented == served | {("POST", "/api/v1/scalars/{run}")}
    assert len(documented) == 41
    hidden = [
        r.path for _, router in ROUTERS for r in router.routes if isinstance(r, APIRoute) and not shown(r, router)
    ]
    assert hidden == ["/", "/login", "/login", "/logout"]


def shown(route: APIRoute, router: APIRouter) -> bool:
    return route.include_in_schema and router.include_in_schema


def test_every_operation_is_told_in_full(document: Any) -> None:
    ids = []
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        ids.append(operation["operationId"])
        assert 5 < len(operation["summary"]) < 60, where
        assert operation["description"].strip(), where
        assert operation["tags"], where
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description") or parameter["schema"].get("description"), (where, parameter["name"])
            assert (parameter["in"] != "path") or parameter["example"]
        assert ("{" in path) == any(p["in"] == "path" for p in operation.get("parameters", ())), where
        if method in ("put", "post", "patch") and not path.endswith(":test"):
            content = operation["requestBody"]["content"]
            assert set(content) == {JSON, MSGPACK} | ({TFRECORDS} if "/events" in path else set()), where
            assert content[JSON]["examples"], where
            assert all(given["schema"]["description"] for name, given in content.items() if name != JSON), where
        assert any(status.startswith("2") for status in operation["responses"]), where
        check_responses(where, operation["responses"])
    assert len(set(ids)) == len(ids)


def check_responses(where: str, responses: Any) -> None:
    codes = set()
    for status, response in responses.items():
        assert response["description"].strip(), (where, status)
        content = response.get("content", {})
        if status.startswith(("2", "3")):
            assert status in ("204", "304") or content, (where, status)
            for media_type, given in content.items():
                binary = media_type in (MSGPACK, "application/octet-stream")
                assert binary or given["example"], (where, status)
        else:
            for code, example in content[PROBLEM_JSON]["examples"].items():
                assert example["value"]["code"] == code
                assert example["value"]["status"] == int(status)
                codes.add(code)
    expected = set(OPEN if "/healthz" in where else EVERYWHERE)
    expected |= {"forbidden_run"} if "{run}" in where else set()
    assert expected <= codes, where


def test_every_code_of_the_table_is_documented_somewhere(document: Any) -> None:
    told = {
        code
        for _, _, operation in operations(document)
        for response in operation["responses"].values()
        for code in response.get("content", {}).get(PROBLEM_JSON, {}).get("examples", ())
    }
    elsewhere = {kind.code for kind in HTTP_KINDS.values()} | {"invalid_name"}  # of no route; never leaves the server
    assert {kind.code for kind in KINDS.values()} - told <= elsewhere


def test_schemas_are_valid_and_refer_to_what_is_there(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for name in re.findall(r"#/components/schemas/([^\"]+)", msgspec.json.encode(document).decode()):
        assert name in schemas
    assert document["security"] == [{"token": []}, {"session": []}]
    assert set(document["components"]["securitySchemes"]) == {"token", "session"}
    assert document["paths"]["/healthz"]["get"]["security"] == []


def validator(document: Any, schema: Any) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


def test_examples_fit_their_schemas(document: Any) -> None:
    checked = 0
    for method, path, operation in operations(document):
        parts = [("body", operation.get("requestBody", {})), *operation["responses"].items()]
        for part, described in parts:
            for media_type, content in described.get("content", {}).items():
                given = [example["value"] for example in content.get("examples", {}).values()]
                given += [content["example"]] if "example" in content else []
                for value in given:
                    errors = list(validator(document, content["schema"]).iter_errors(value))
                    assert not errors, (method, path, part, media_type, errors)
                    checked += 1
    assert checked > 100


ORDER = (
    "put_run", "report", "post_events", "get_blob", "get_run", "list_runs", "get_scalars", "query", "get_tags",
    "post_tags", "columns", "service", "live", "export",
    "refused", "alert", "alerts", "heartbeat", "patch_run", "rewind", "verify", "repair", "prune", "backup", "healthz",
    "readyz", "metrics", "audit", "put_watch", "get_watch", "put_project_watch", "get_project_watch", "incidents",
    "delete_watch", "delete_project_watch", "test_watch", "test_project_watch", "delete_run", "create_token",
    "list_tokens", "revoke_token",
)  # fmt: skip
"""Each operation's examples in an order in which they make sense."""


def test_every_example_works_as_it_is(start_service: StartService) -> None:
    with receiving() as receiver:
        service = start_service(webhook_url=receiver.url)
        check_examples(service)
        assert receiver.titles().count("a test notice") == 2
    assert service.get(f"/runs/{examples.RUN}").status == 410


def check_examples(service: RunningService) -> None:
    document = service.app.openapi()
    found = {operation["operationId"]: (m, p, operation) for m, p, operation in operations(document)}
    assert set(found) == set(ORDER)
    for operation_id in ORDER:
        method, path, operation = found[operation_id]
        for name, url in urls(path, operation).items():
            if operation_id == "revoke_token":
                url = url.replace(examples.TOKEN["id"], service.get("/tokens").json()["tokens"][-1]["id"])
            bodies = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("examples", {"": {}})
            for body_name, body in bodies.items():
                value = body.get("value")
                answer = listened(service) if operation_id == "live" else call(service, method, url, value)
                where = (operation_id, name, body_name, answer.body)
                assert 200 <= answer.status < 300, where
                check_answer(document, operation, answer, where)
                if operation_id == "create_token" and value["scope"] == "admin":
                    service.headers["Authorization"] = f"Bearer {answer.json()['token']}"  # nobody gets in without now


def urls(path: str, operation: Any) -> dict[str, str]:
    """The URL with the examples of its parameters."""
    query = "&".join(
        f"{p['name']}={first_example(p)}"
        for p in operation.get("parameters", ())
        if p.get("required") and p["in"] == "query"
    )
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", parameter["example"])
    return {"": f"{path}?{query}" if query else path}


def first_example(parameter: Any) -> str:
    value = next(iter(parameter["examples"].values()))["value"]
    return str(value[0] if isinstance(value, list) else value)


def call(service: RunningService, method: str, url: str, value: Any) -> Answer:
    if value is None:
        return service.request(method.upper(), url)
    return service.request(method.upper(), url, msgspec.json.encode(value), {"Content-Type": JSON})


def listened(service: RunningService) -> Answer:
    """The first event of a stream that has no end."""
    with listening(service) as stream:
        name, data = stream.event()
        content_type = next(line for line in stream.head.splitlines() if line.startswith("content-type: "))
        assert examples.LIVE.splitlines()[1] == f"event: {name}"
        assert set(data) == {"version", "boot"}
    return Answer(200, {"content-type": content_type.removeprefix("content-type: ")}, b"")


def check_answer(document: Any, operation: Any, answer: Answer, where: Any) -> None:
    """The answer is as documented."""
    described = operation["responses"][str(answer.status)]
    content = described.get("content", {})
    if not content:
        assert answer.body == b"", where
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in content, where
    if media_type == JSON:
        value = answer.json()
        errors = list(validator(document, content[media_type]["schema"]).iter_errors(value))
        assert not errors, (where, errors)
        assert set(content[media_type]["example"]) <= set(value), where


def test_the_examples_say_the_same_in_msgpack(start_service: StartService) -> None:
    service = start_service()
    for value in examples.REPORTS.values():
        answer = service.report_bytes("a/b", msgspec.msgpack.encode(value), MSGPACK, accept=MSGPACK)
        assert (answer.status, answer.headers["content-type"]) == (200, MSGPACK), answer.body
        assert answer.json()["stored"] >= 1
