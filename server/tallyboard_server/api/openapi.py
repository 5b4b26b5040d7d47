"""The OpenAPI document: FastAPI's routes, the ingest route beside them, and the schemas of all messages."""

from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tallyboard.wire import Alert, EventsMessage, Open, Problem, Receipt
from tallyboard.wire.messages import BatchMessage
from tallyboard_server.api import (
    chartmessages,
    examples,
    messages,
    overviewmessages,
    reports,
    tokenmessages,
    watchmessages,
)
from tallyboard_server.api.documented import SCHEMA_REF
from tallyboard_server.api.routes import API_PREFIX, described_routes
from tallyboard_server.watch import WatchRules

INGEST_PATH: Final = f"{API_PREFIX}/scalars/{{run}}"

_KINDS: Final = (
    Alert, BatchMessage, EventsMessage, Open, Receipt, Problem, messages.RunView, messages.RunPage,
    messages.RunTablePage, messages.RunRow, messages.RunPatch,
    messages.RewindBody, messages.HeartbeatBody, messages.HeartbeatAnswer, messages.RefusedPage, messages.AlertsPage,
    chartmessages.Chart, chartmessages.Series, chartmessages.QueryBody,
    messages.AuditItem, messages.AuditPage,
    messages.Readiness, messages.RepairBody, messages.RepairAnswer, messages.VerifyLine,
    messages.PruneBody, messages.PruneLine, overviewmessages.TagsBody, overviewmessages.TagsAnswer,
    overviewmessages.ColumnsAnswer, overviewmessages.ServiceAnswer,
    tokenmessages.TokenBody, tokenmessages.TokenMade, tokenmessages.TokensPage,
    WatchRules, watchmessages.WatchAnswer, watchmessages.IncidentsPage, watchmessages.TestAnswer,
)  # fmt: skip
_DESCRIPTION: Final = """Training jobs report scalars keyed by named step counters; the service checks that each counter
only increases, stores the scalars durably and writes TensorBoard event files.

Bodies are JSON or MessagePack (by `Content-Type`), also gzip or zstd (by `Content-Encoding`); answers are JSON, or
MessagePack if `Accept` names `application/msgpack`. In MessagePack whole columns travel as little-endian binary.
Errors are `application/problem+json` (RFC 9457) with a stable `code` and a `detail` that says what to do. After 408,
429 and 5xx the same request may be sent again: numbered batches are stored once.
"""


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document, built once per app."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, license_info=app.license_info
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.clear()  # FastAPI's own error schemas: no route answers them
    _, found = msgspec.json.schema_components(_KINDS, ref_template=SCHEMA_REF)
    schemas.update(found)
    schemas["RunTablePage"]["properties"]["rows"]["items"] = {"type": "array", "items": {}}
    schemas["RunPage"]["properties"]["runs"]["items"] = {"$ref": SCHEMA_REF.format(name="RunRow")}
    schemas["Chart"]["properties"]["series"]["items"] = {"$ref": SCHEMA_REF.format(name="Series")}
    for block in ("Block", "Points", "Buckets", "Lean", "GroupColumns"):
        _say_binary(schemas[block]["properties"])
    columns = schemas["EventBlock"]["properties"]
    _say_binary({name: columns[name] for name in ("steps", "wall_times")})
    document["components"]["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of POST /tokens, or the service's TALLYBOARD_TOKEN. None while there is none.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "tallyboard_<service>",
            "description": "What a browser gets at /login. <service>: 8 hexadecimal digits.",
        },
    }
    document["security"] = [{"token": []}, {"session": []}]
    document["paths"] = {INGEST_PATH: {"post": _ingest_operation()}} | document["paths"]
    _restore(document["paths"])
    _finish(document["paths"])
    app.openapi_schema = document
    return document


def _ingest_operation() -> dict[str, Any]:
    described = reports.REPORT_DOCUMENTED
    summary_and_rest = (reports.report.__doc__ or "").strip()
    return {
        "tags": ["reports"],
        "summary": described["summary"],
        "description": "\n".join(line.strip() for line in summary_and_rest.splitlines()),
        "operationId": described["operation_id"],
        "parameters": [
            {
                "name": "run",
                "in": "path",
                "required": True,
                "description": "The run's name, `project/name…`; slashes may stand as they are.",
                "schema": {"type": "string"},
            }
        ],
        "responses": {str(status): given for status, given in described["responses"].items()},
        **described["openapi_extra"],
    }


def _restore(paths: dict[str, Any]) -> None:
    """Put in what the routes say of bodies and answers: FastAPI leaves out the nulls of examples."""
    for path, route in described_routes():
        for method in route.methods or ():
            operation = paths[path][method.lower()]
            operation["responses"] = {str(status): given for status, given in route.responses.items()}
            operation |= route.openapi_extra or {}


def _finish(paths: dict[str, Any]) -> None:
    """What holds for every operation: examples of path parameters."""
    for operations in paths.values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["example"] = examples.IN_PATHS[parameter["name"]]


def _say_binary(properties: dict[str, Any]) -> None:
    for schema in properties.values():
        for part in (schema, *schema.get("anyOf", ())):
            if part.pop("contentEncoding", None) is not None:
                part["format"] = "binary"
                part["description"] = "MessagePack only: little-endian column"
