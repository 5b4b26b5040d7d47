"""Every error as application/problem+json: one table says which status and code each exception becomes."""

import logging
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import InvalidBatchError, InvalidNameError, Problem, UndecodableBodyError
from tallyboard_server.access import (
    AdminTokenFirstError,
    BeyondOwnError,
    LastAdminTokenError,
    TokenNotFoundError,
    TokenRefusedError,
    TokensTooManyError,
)
from tallyboard_server.contract.errors import BlobCollisionError, LimitError, RefusedError, SeqGapError, SeqReusedError
from tallyboard_server.ingest.errors import (
    OverloadedError,
    ProjectFullError,
    RunDeletedError,
    RunExistsError,
    RunForbiddenError,
    RunNotFoundError,
)
from tallyboard_server.logs import REQUEST_ID
from tallyboard_server.runtable import RunsTooManyError, StillReadingError
from tallyboard_server.series import HistoryChangedError, PointsTooManyError, UnknownAxisError
from tallyboard_server.store.protocol import StoreBusyError, StoreError, StoreFullError

PROBLEM_JSON: Final = "application/problem+json"

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that HTTP itself gives reason to refuse. The message says what to do; `field` is the culprit."""

    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class InvalidPathError(ApiError):
    """A path or query that is not percent-encoded UTF-8, or a path with control characters."""


class InvalidRunNameError(ApiError):
    """A path that names what can't be a run."""


class InvalidQueryError(ApiError):
    """A query parameter that is wrong or missing. position: of the character where what is wrong begins, from 1."""

    def __init__(self, detail: str, *, field: str | None = None, position: int | None = None) -> None:
        super().__init__(detail, field=field)
        self.position = position


class UnauthorizedError(ApiError):
    """No token, or a wrong one."""

    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="tallyboard"'}
    for_browsers: ClassVar[str] = 'Basic realm="tallyboard", charset="UTF-8"'
    """Goes into a line of its own: Chromium takes each line for one challenge, and asks for no password otherwise."""


class WrongTokensError(UnauthorizedError):
    """A wrong token, after many others from the same address. wait_s: until it is told more again."""

    def __init__(self, detail: str, wait_s: float) -> None:
        super().__init__(detail)
        self.wait_s = wait_s


class ForbiddenError(ApiError):
    """A token whose scope does not hold what is asked for."""


class ForbiddenHostError(ApiError):
    """A Host header that does not name this service."""


class ForbiddenOriginError(ApiError):
    """A page of another site is asking."""


class PointNotFoundError(ApiError):
    """A tag that has no such point."""


class RulesChangedError(ApiError):
    """The rules are not those any more that If-Match names."""


class NoWebhookError(ApiError):
    """A notice to a project of which nobody wants to hear."""


class UnsupportedMediaTypeError(ApiError):
    """A content type that no route takes."""

    headers: ClassVar[Mapping[str, str]] = {"Accept-Post": "application/json, application/msgpack"}


class UnsupportedEncodingError(ApiError):
    """A content encoding that no route takes."""

    headers: ClassVar[Mapping[str, str]] = {"Accept-Encoding": "gzip, zstd"}


class BodyTooLargeError(ApiError):
    """More bytes than a body may have, before or after decompression."""

    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}


class BodyTimeoutError(ApiError):
    """A body that took too long to arrive."""

    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}


class BodyDamagedError(ApiError):
    """A body that is cut (the connection closed early), or whose compressed data is damaged."""


class NotInstalledError(ApiError):
    """What was asked for needs a package that the service does not have."""


class BackupElsewhereError(ApiError):
    """The store is not in this service's hands alone, and is copied by its own means."""


class TooBusyError(ApiError):
    """More requests at once than the service takes on."""

    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class RateLimitedError(ApiError):
    """More requests a second than whoever asks may make; retry_after_s: when there is room again."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


@dataclass(slots=True, frozen=True)
class Kind:
    """What a kind of error is on the wire: HTTP status, stable code, title."""

    status: int
    code: str
    title: str


KINDS: Final[Mapping[type[Exception], Kind]] = {
    UndecodableBodyError: Kind(400, "undecodable_body", "The body can't be decoded"),
    BodyDamagedError: Kind(400, "damaged_body", "The body is cut or damaged"),
    InvalidPathError: Kind(400, "invalid_path", "The path or query can't be used"),
    UnauthorizedError: Kind(401, "unauthorized", "A token is needed"),
    TokenRefusedError: Kind(401, "unauthorized", "A token is needed"),
    ForbiddenError: Kind(403, "forbidden", "The token does not allow this"),
    BeyondOwnError: Kind(403, "forbidden", "The token does not allow this"),
    RunForbiddenError: Kind(403, "forbidden_run", "The token is for another project"),
    ForbiddenOriginError: Kind(403, "forbidden_origin", "Another site's page may not ask"),
    RunNotFoundError: Kind(404, "run_not_found", "There is no such run"),
    TokenNotFoundError: Kind(404, "token_not_found", "There is no such token"),
    BodyTimeoutError: Kind(408, "body_timeout", "The body took too long"),
    RefusedError: Kind(409, RefusedError.code, "Reports break the rules of their counter"),
    SeqReusedError: Kind(409, SeqReusedError.code, "The seq was used for another batch"),
    SeqGapError: Kind(409, SeqGapError.code, "A batch is missing before this one"),
    BlobCollisionError: Kind(409, "blob_collision", "Two values can't be told apart"),
    NoWebhookError: Kind(404, "no_webhook", "There is no webhook"),
    PointNotFoundError: Kind(404, "point_not_found", "There is no such point"),
    LimitError: Kind(409, LimitError.code, "The run is full"),
    ProjectFullError: Kind(409, "project_full", "The project is full"),
    RunExistsError: Kind(409, "run_exists", "The run exists already"),
    AdminTokenFirstError: Kind(409, "admin_token_first", "An admin token has to be made first"),
    LastAdminTokenError: Kind(409, "last_admin_token", "It is the last admin token"),
    TokensTooManyError: Kind(409, "too_many_tokens", "There are as many tokens as may be"),
    RunDeletedError: Kind(410, "run_deleted", "The run was deleted"),
    RulesChangedError: Kind(412, "rules_changed", "Somebody else has changed the rules"),
    BodyTooLargeError: Kind(413, "body_too_large", "The body is too large"),
    RunsTooManyError: Kind(413, "too_many_runs", "More runs than can be put in order"),
    PointsTooManyError: Kind(413, "too_many_points", "The answer would be too large"),
    UnsupportedMediaTypeError: Kind(415, "unsupported_media_type", "The content type is not taken"),
    UnsupportedEncodingError: Kind(415, "unsupported_encoding", "The content encoding is not taken"),
    ForbiddenHostError: Kind(421, "forbidden_host", "The Host header names another service"),
    InvalidBatchError: Kind(422, "invalid_body", "The body says something that can't be"),
    InvalidNameError: Kind(422, "invalid_name", "The name can't be used"),
    InvalidRunNameError: Kind(422, "invalid_run_name", "The run can't be called that"),
    UnknownAxisError: Kind(422, "unknown_axis", "The runs have no such x axis"),
    InvalidQueryError: Kind(422, "invalid_query", "A query parameter can't be used"),
    RequestValidationError: Kind(422, "invalid_query", "A query parameter can't be used"),
    WrongTokensError: Kind(429, "too_many_wrong_tokens", "Too many wrong tokens"),
    RateLimitedError: Kind(429, "rate_limited", "Too many requests a second"),
    NotInstalledError: Kind(501, "not_installed", "The service lacks a package for this"),
    BackupElsewhereError: Kind(501, "backup_elsewhere", "The store is copied by its own means"),
    OverloadedError: Kind(503, "overloaded", "Too much is waiting"),
    TooBusyError: Kind(503, "too_busy", "Too many requests at once"),
    StillReadingError: Kind(503, "still_reading", "The runs' figures are still being read"),
    HistoryChangedError: Kind(503, "history_changing", "A run is being pruned or rewound"),
    StoreBusyError: Kind(503, "store_busy", "The store is busy"),
    StoreError: Kind(503, "store_error", "The store could not do its work"),
    StoreFullError: Kind(507, "store_full", "The disk is full"),
}
"""Status and code of every exception that is answered; a subclass that is absent takes its parent's."""

HTTP_KINDS: Final[Mapping[int, Kind]] = {
    404: Kind(404, "route_not_found", "There is no such route"),
    405: Kind(405, "method_not_allowed", "The route does not take this method"),
}
CONNECTION_KINDS: Final[Mapping[str, Kind]] = {
    kind.code: kind
    for kind in (
        Kind(400, "bad_request", "This is no HTTP request"),
        Kind(408, "header_timeout", "The headers took too long"),
        Kind(431, "headers_too_large", "The headers are too large"),
        Kind(503, "too_many_connections", "Too many connections"),
    )
}
"""What a connection is ended with before there is a request that a route could answer."""
INTERNAL: Final = Kind(500, "internal_error", "Something went wrong here")

_RETRY_AFTER_S: Final = 1
"""For a store that was busy: a group commit takes milliseconds, a trim of the log under a second."""


def kind_of(error: Exception) -> Kind:
    """The table's entry for an exception; INTERNAL if it is none that was foreseen."""
    for ancestor in type(error).__mro__:
        if ancestor in KINDS:
            return KINDS[ancestor]
    return INTERNAL


def answer(error: Exception) -> Response:
    """The response for an exception; one that was not foreseen is logged under an id that the answer carries."""
    if isinstance(error, HTTPException):
        return _http(error)
    response = respond(*described(error))
    if isinstance(error, UnauthorizedError) and not isinstance(error, WrongTokensError):
        response.headers.append("WWW-Authenticate", error.for_browsers)
    return response


def described(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The problem for an exception, and the headers that go with it; logs what was not foreseen."""
    kind = kind_of(error)
    problem = Problem(title=kind.title, status=kind.status, code=kind.code, detail=str(error))
    headers: dict[str, str] = {}
    match error:
        case InvalidBatchError():
            problem.field, problem.detail = error.field, error.detail
        case RefusedError():
            problem.refused, problem.refused_count = error.refused, error.refused_count
        case SeqGapError():
            problem.expected_seq = error.expected
        case UnknownAxisError():
            problem.field = "x"
        case OverloadedError() | RateLimitedError():
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        case StillReadingError() | HistoryChangedError():
            headers["Retry-After"] = str(_RETRY_AFTER_S)
        case StoreError():
            headers["Retry-After"] = str(_RETRY_AFTER_S)
            log.warning("the store refused: %s", error)
        case InvalidQueryError():
            problem.field, problem.position = error.field, error.position
        case WrongTokensError():
            headers["Retry-After"] = str(math.ceil(error.wait_s))
        case ApiError():
            problem.field = error.field
            headers.update(error.headers)
        case RequestValidationError():
            problem.field, problem.detail = _first_fault(error)
    if kind is INTERNAL:
        problem.request_id = REQUEST_ID.get() or secrets.token_hex(8)
        problem.detail = "unexpected error; the service's log has it under this request_id"
        log.error("request %s failed", problem.request_id, exc_info=error)
    return problem, headers


async def handle(_request: Request, error: Exception) -> Response:
    """`answer` as Starlette calls it."""
    return answer(error)


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response."""
    return Response(msgspec.json.encode(problem), status_code=problem.status, headers=headers, media_type=PROBLEM_JSON)


def _http(error: HTTPException) -> Response:
    status = error.status_code
    kind = HTTP_KINDS.get(status) or Kind(status, f"http_{status}", HTTPStatus(status).phrase)
    details = {
        404: "no route has this path; GET /docs lists the routes",
        405: f"allowed here: {(error.headers or {}).get('Allow', 'see GET /docs')}",
    }
    detail = details.get(status, str(error.detail))
    return respond(Problem(title=kind.title, status=status, code=kind.code, detail=detail), error.headers)


def _first_fault(error: RequestValidationError) -> tuple[str, str]:
    fault = error.errors()[0]
    where = [str(part) for part in fault["loc"] if part not in ("query", "path")]
    return ".".join(where) or "query", str(fault["msg"])
