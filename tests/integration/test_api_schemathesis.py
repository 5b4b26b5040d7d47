"""The whole API as its OpenAPI document says it: whatever is asked, the answer is one that is documented.

Schemathesis makes requests of the document, some that fit it and some that just do not, the same ones each time. Left
out are the stream at /live, which has no end (test_api_live), and bodies that are no JSON (test_decoders_fuzz).
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tallyboard.wire import JSON
from tallyboard_server.api import examples
from tallyboard_server.api.openapi import INGEST_PATH
from tallyboard_server.api.routes import described_routes
from tallyboard_server.settings import Settings
from tests.service import RunningService, serving

OPERATIONS = [("POST", INGEST_PATH)] + [
    (method, path)
    for path, route in described_routes()
    for method in sorted(route.methods or ())
    if route.operation_id != "live"
]
OPEN = {("GET", "/healthz")}
"""What anybody may ask."""
SENDS = {("POST", "/api/v1/watch:test"), ("POST", "/api/v1/watch/{project}:test")}
"""What sends to addresses that other requests have made up: only turned away here."""
CLOSES = {("POST", "/api/v1/tokens")}
"""What closes an open service."""
UNDENIABLE = {
    ("GET", "/api/v1/runs/{run}"), ("DELETE", "/api/v1/runs/{run}"), ("GET", "/api/v1/service"),
    ("GET", "/api/v1/export/{run}"), ("GET", "/api/v1/verify/{run}"), ("GET", "/api/v1/backup"),
    ("GET", "/api/v1/tokens"), ("DELETE", "/api/v1/tokens/{id}"), ("GET", "/api/v1/watch"),
    ("DELETE", "/api/v1/watch"), ("GET", "/api/v1/watch/{project}"), ("DELETE", "/api/v1/watch/{project}"),
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"),
}  # fmt: skip
"""Whatever is asked here fits the document: there is nothing to say but a name, and text."""
EXAMPLES = 24
"""Of each operation, and of those that fit the document and those that do not."""
TOKEN = "correct-horse-battery-staple"
TIMEOUT_S = 20.0
UNPROVEN = [checks.positive_data_acceptance, checks.ignored_auth]
"""A schema can't say all that makes a request good. Tokens have tests of their own below."""

Operation = tuple[str, str]
Check = Callable[[Case[Any], bool], None]


@pytest.fixture(scope="module")
def filled(service: RunningService) -> RunningService:
    """A service with the run of the examples, which has a bit of everything."""
    fill(service)
    return service


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The same behind a token."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("guarded"), port=0, token=TOKEN)) as running:
        fill(running)
        yield running


@pytest.fixture(scope="module")
def tokens(guarded: RunningService) -> dict[str, str]:
    """A token of each scope."""
    return {
        scope: guarded.send("POST", "/tokens", {"scope": scope}).json()["token"] for scope in ("read", "write", "admin")
    }


@pytest.fixture(autouse=True)
def _there_again(filled: RunningService, guarded: RunningService) -> None:
    """The examples' run, which the test before may have pruned."""
    for service in (filled, guarded):
        if service.get(f"/runs/{examples.RUN}").status != 200:
            assert service.send("PUT", f"/runs/{examples.RUN}", {}).status == 201
            fill(service)


def fill(service: RunningService) -> None:
    for path, documents in (("scalars", examples.REPORTS), ("events", examples.EVENTS)):
        for document in documents.values():
            assert service.send("POST", f"/{path}/{examples.RUN}", document).status == 200
    assert service.send("PATCH", f"/runs/{examples.RUN}", {"config": {"lr": 0.1}, "tags": ["x"]}).status == 200


@cache
def schema_of(url: str) -> OpenApiSchema:
    """A service's document with what of it is JSON, and no token: that is for the tests to add."""
    document = requests.get(f"{url}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30).json()
    document.pop("security")
    document["components"].pop("securitySchemes")
    for given_path in document["paths"].values():
        for described in given_path.values():
            described.pop("security", None)
            content = described.get("requestBody", {}).get("content", {})
            for media_type in [media_type for media_type in content if media_type != JSON]:
                del content[media_type]
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    return schema


def operation(service: RunningService, asked: Operation) -> APIOperation[Any, Any, Any, Any]:
    """An operation of a service's document."""
    method, path = asked
    return schema_of(service.url)[path][method]


def each(asked: APIOperation[Any, Any, Any, Any], mode: GenerationMode, check: Check, count: int = EXAMPLES) -> None:
    """Check so many requests, the same ones in each run; the second argument is drawn at even chances."""

    @hypothesis_settings(
        max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=asked.as_strategy(generation_mode=mode), chance=st.booleans())
    def checked(case: Case[Any], chance: bool) -> None:
        check(case, chance)

    checked()


def ask_of_the_example(case: Case[Any]) -> None:
    """Have a request ask of the run that is there: of one that is not there is little to say."""
    if "run" in (case.path_parameters or {}):
        case.path_parameters["run"] = examples.RUN if case.method != "DELETE" else "not/there"
    if "run" in (case.query or {}):
        case.query["run"] = [examples.RUN]


@pytest.mark.parametrize("asked", [asked for asked in OPERATIONS if asked not in SENDS | CLOSES], ids=" ".join)
def test_what_fits_the_document_is_answered_as_it_says(filled: RunningService, asked: Operation) -> None:
    def check(case: Case[Any], known: bool) -> None:
        if known or case.method == "DELETE":
            ask_of_the_example(case)
        case.validate_response(case.call(timeout=TIMEOUT_S), excluded_checks=UNPROVEN)

    each(operation(filled, asked), GenerationMode.POSITIVE, check)


@pytest.mark.parametrize("asked", [a for a in OPERATIONS if a not in UNDENIABLE | SENDS | CLOSES], ids=" ".join)
def test_what_does_not_fit_the_document_is_refused_as_it_says(filled: RunningService, asked: Operation) -> None:
    wanted = operation(filled, asked)
    # What is no text in a list of texts is one when it is sent in a URL, so it can't be refused.
    texts = any("array" in str(parameter["schema"]) for parameter in wanted.definition.raw.get("parameters", ()))
    lenient = [checks.negative_data_rejection] if asked[0] == "GET" and texts else []

    def check(case: Case[Any], _: bool) -> None:
        case.validate_response(case.call(timeout=TIMEOUT_S), excluded_checks=[*UNPROVEN, *lenient])

    each(wanted, GenerationMode.NEGATIVE, check)


@pytest.mark.parametrize("asked", OPERATIONS, ids=" ".join)
def test_without_a_token_nothing_is_answered_but_what_is_open(guarded: RunningService, asked: Operation) -> None:
    def stored() -> Any:
        return guarded.get(f"/runs/{examples.RUN}").json() | {"health": None}

    before = stored()

    def check(case: Case[Any], known: bool) -> None:
        if known:
            ask_of_the_example(case)
        response = case.call(timeout=TIMEOUT_S)
        assert (response.status_code == 200) if asked in OPEN else (response.status_code == 401), response.text
        if asked not in OPEN:
            assert response.json()["code"] == "unauthorized"
            assert response.headers["www-authenticate"]

    each(operation(guarded, asked), GenerationMode.POSITIVE, check, 6)
    assert stored() == before


@pytest.mark.parametrize("asked", [asked for asked in OPERATIONS if asked not in SENDS], ids=" ".join)
def test_with_a_token_of_any_scope_the_answer_is_documented(
    guarded: RunningService, tokens: dict[str, str], asked: Operation
) -> None:
    allowed = dict[str, bool]()

    def check(case: Case[Any], known: bool) -> None:
        if known or case.method == "DELETE":
            ask_of_the_example(case)
        for scope, token in tokens.items():
            headers = {"Authorization": f"Bearer {token}"}
            response = case.call(timeout=TIMEOUT_S, headers=headers)
            assert response.status_code != 401
            allowed[scope] = allowed.get(scope, False) or response.status_code != 403
            case.validate_response(response, headers=headers, excluded_checks=UNPROVEN)

    each(operation(guarded, asked), GenerationMode.POSITIVE, check, 4)
    assert allowed["admin"]
    assert allowed["read"] <= allowed["write"]  # who may read may be one who may not write, never the other way
