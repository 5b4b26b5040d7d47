"""Routes said in OpenAPI's words: bodies and answers as msgspec types, with examples, and every problem by its code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.responses import Response

from tallyboard.wire import JSON, MSGPACK, Problem
from tallyboard_server.api.problems import HTTP_KINDS, INTERNAL, KINDS, PROBLEM_JSON, Kind
from tallyboard_server.principal import Scope

NEEDS: Final = "x-tallyboard-needs"
"""Where a route says which scope it needs; null: none, it is answered to anybody."""
ALL_PROJECTS: Final = "x-tallyboard-all-projects"
"""Where a route says that it is about the whole service: no token of one project will do."""

SCHEMA_REF: Final = "#/components/schemas/{name}"

EVERYWHERE: Final = (
    "invalid_path", "unauthorized", "forbidden", "forbidden_origin", "forbidden_host", "too_many_wrong_tokens",
    "rate_limited", "too_busy", "internal_error",
)  # fmt: skip
"""Problems that any route but those open to anybody may answer."""
OPEN: Final = ("too_busy", "internal_error")
"""Problems that a route which is open to anybody may answer."""

BODY: Final = (
    "undecodable_body", "damaged_body", "body_timeout", "body_too_large", "unsupported_media_type",
    "unsupported_encoding", "invalid_body", "overloaded",
)  # fmt: skip
"""Problems of a route that takes a body."""

STORE: Final = ("store_busy", "store_error")
"""Problems of a route that reads."""

WRITE: Final = ("overloaded", "store_full", *STORE)
"""Problems of a route that writes."""

_KINDS: Final[Mapping[str, Kind]] = {kind.code: kind for kind in (*KINDS.values(), *HTTP_KINDS.values(), INTERNAL)}


@dataclass(slots=True, frozen=True)
class Sent:
    """A body that a route takes: its type, examples by name (JSON), and what MessagePack is like here."""

    kind: type
    examples: Mapping[str, Any]
    required: bool = True
    msgpack: str = "The same fields as in JSON."
    others: Mapping[str, str] = field(default_factory=dict)
    """Further types, and what is in such a body."""


@dataclass(slots=True, frozen=True)
class Given:
    """An answer: its type, one example (JSON), in words, and its headers by name with what they say.

    media_type: for answers that are neither JSON nor MessagePack; `kind` bytes is a file, str text.
    """

    kind: type | None
    example: Any
    description: str
    headers: Mapping[str, str] = field(default_factory=dict)
    msgpack: str = "The same fields as in JSON."
    media_type: str | None = None


def documented(
    operation_id: str,
    summary: str,
    *,
    needs: Scope | None,
    answers: Mapping[int, Given],
    sent: Sent | None = None,
    problems: Sequence[str] = (),
    all_projects: bool = False,
) -> dict[str, Any]:
    """Keyword arguments for a FastAPI route: the route's docstring is its description.

    needs: the scope without which it is answered 403; None: answered to anybody, token or not. all_projects: it is
    about the whole service, so a token of one project will not do.
    """
    extra: dict[str, Any] = {NEEDS: needs} | ({ALL_PROJECTS: True} if all_projects else {})
    if needs is None:
        extra["security"] = []
    run = ("forbidden_run",) if "invalid_run_name" in problems else ()
    everywhere = OPEN if needs is None else (*EVERYWHERE, *run)
    if sent is not None:
        extra["requestBody"] = request_body(sent)
    return {
        "operation_id": operation_id,
        "summary": summary,
        "response_class": Response,
        "status_code": min(answers),
        "responses": responses(answers, (*problems, *everywhere)),
        "openapi_extra": extra,
    }


def hidden(*, needs: Scope | None) -> dict[str, Any]:
    """Keyword arguments for a FastAPI route that the documentation leaves out; needs: see `documented`."""
    return {"include_in_schema": False, "openapi_extra": {NEEDS: needs}}


def request_body(sent: Sent) -> dict[str, Any]:
    """A requestBody object."""
    return {
        "required": sent.required,
        "content": {
            JSON: {
                "schema": reference(sent.kind),
                "examples": {name: {"value": value} for name, value in sent.examples.items()},
            },
            **{
                media_type: {"schema": {"type": "string", "format": "binary", "description": said}}
                for media_type, said in ((MSGPACK, sent.msgpack), *sent.others.items())
            },
        },
    }


def responses(answers: Mapping[int, Given], problems: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    """A responses object."""
    found: dict[int | str, dict[str, Any]] = {status: _answer(given) for status, given in answers.items()}
    by_status: dict[int, list[Kind]] = {}
    for code in dict.fromkeys(problems):
        kind = _KINDS[code]
        by_status.setdefault(kind.status, []).append(kind)
    for status, kinds in sorted(by_status.items()):
        said = "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds)
        described = found.setdefault(status, {"description": "", "content": {}})
        described["description"] = f"{described['description']} {said}".strip()
        described["content"][PROBLEM_JSON] = {
            "schema": reference(Problem),
            "examples": {kind.code: {"value": _problem(kind)} for kind in kinds},
        }
    return found


def reference(kind: type) -> dict[str, str]:
    """A reference to a type's schema among the components."""
    return {"$ref": SCHEMA_REF.format(name=kind.__name__)}


def _answer(given: Given) -> dict[str, Any]:
    found: dict[str, Any] = {"description": given.description}
    if given.headers:
        found["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in given.headers.items()
        }
    if given.kind is str:
        media_type = given.media_type or "text/plain"
        found["content"] = {media_type: {"schema": {"type": "string"}, "example": given.example}}
    elif given.kind is bytes and given.media_type is not None:
        found["content"] = {given.media_type: {"schema": {"type": "string", "format": "binary"}}}
    elif given.kind is not None and given.media_type is not None:
        found["content"] = {given.media_type: {"schema": reference(given.kind), "example": given.example}}
    elif given.kind is not None:
        found["content"] = {
            JSON: {"schema": reference(given.kind), "example": given.example},
            MSGPACK: {"schema": {"type": "string", "format": "binary", "description": given.msgpack}},
        }
    return found


def _problem(kind: Kind) -> Any:
    problem = Problem(title=kind.title, status=kind.status, code=kind.code, detail="what is wrong, and what to do")
    return msgspec.to_builtins(problem)
