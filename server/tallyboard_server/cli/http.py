"""The CLI's way to a running service: GET and POST with token, and errors that say what to do."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from tallyboard.wire import JSON, MSGPACK, Batch, Problem, Receipt, encode_batch, trust
from tallyboard_server.api.messages import PruneBody, PruneLine, Readiness, RunPage, RunRow, VerifyLine

URL_DEFAULT: Final = "http://127.0.0.1:6007"
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=60.0)
"""Seconds; a service that answers at all answers a read well within them."""
_DOWNLOAD_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=3600.0)
"""A backup is copied before its first byte is sent."""
_CONNECTIONS_KEPT: Final = 4
"""For a command whose threads ask at the same time."""
_CHUNK_BYTES: Final = 1024 * 1024

_T = TypeVar("_T")


class UnreachableError(Exception):
    """No service answers at the URL."""


class ApiProblemError(Exception):
    """The service answered with an error; `problem` is its body."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Points(msgspec.Struct):
    """Columns of equal length, ascending by step; non-finite values as the strings of JSON."""

    step: list[int]
    wall_time: list[float]
    value: list[float | str]


class Curve(msgspec.Struct):
    """The visible points of one tag, and the counter it belongs to."""

    counter: str
    points: Points


class _Chart(msgspec.Struct):
    series: list[Curve]


class Service:
    """One service: its address (`url` without a trailing slash), and what it answers."""

    def __init__(self, url: str, token: str | None = None, ca_file: str | None = None) -> None:
        """ca_file: authorities that vouch for its certificate; None: those of the system."""
        self.url = url.rstrip("/")
        headers = {"Accept": JSON, "User-Agent": "tallyboard-cli"}
        self._has_token = bool(token)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            headers=headers, timeout=_TIMEOUT, retries=False, maxsize=_CONNECTIONS_KEPT, **trust.pool_options(ca_file)
        )

    def get(self, path: str, kind: type[_T], **query: str | int | float | None) -> _T:
        """GET a path below /api/v1; queries that are None are left out. Raises UnreachableError, ApiProblemError."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._decode(self._request("GET", _api(path) + (f"?{urlencode(given)}" if given else "")), kind)

    def get_tagged(self, path: str, kind: type[_T]) -> tuple[_T, str]:
        """GET a path below /api/v1, and its ETag ("": it has none). Raises as `get` does."""
        response = self._request("GET", _api(path))
        return self._decode(response, kind), response.headers.get("ETag", "")

    def post(self, path: str, body: Any, kind: type[_T]) -> _T:
        """POST a JSON document to a path below /api/v1. Raises UnreachableError, ApiProblemError."""
        return self._decode(self._request("POST", _api(path), msgspec.json.encode(body)), kind)

    def put(self, path: str, body: Any, kind: type[_T], *, if_match: str = "") -> _T:
        """PUT a JSON document to a path below /api/v1; if_match: only if the ETag there is this one still ("": in any
        case). Raises UnreachableError, ApiProblemError."""
        only_if = {"If-Match": if_match} if if_match else {}
        return self._decode(self._request("PUT", _api(path), msgspec.json.encode(body), more=only_if), kind)

    def delete(self, path: str) -> None:
        """DELETE a path below /api/v1. Raises UnreachableError, ApiProblemError."""
        response = self._request("DELETE", _api(path))
        if response.status >= 400:
            raise ApiProblemError(self._problem(response))

    def report(self, run: str, batch: Batch) -> Receipt:
        """POST a batch to a run, as MessagePack. Raises as `post` does."""
        return self._decode(
            self._request("POST", _api(run_path("/scalars", run)), encode_batch(batch), MSGPACK), Receipt
        )

    def runs(self, **query: str | int) -> Iterator[RunRow]:
        """All runs that GET /runs finds, page after page. Raises as `get` does."""
        cursor: str | None = None
        while True:
            page = self.get("/runs", RunPage, cursor=cursor, **query)
            for row in page.runs:
                yield msgspec.json.decode(row, type=RunRow)
            if (cursor := page.cursor) is None:
                return

    def readiness(self) -> Readiness:
        """Whether the service can work; not being ready is an answer, no error. Raises as `get` does."""
        response = self._request("GET", "/readyz")
        return self._decode(response, Readiness, also=503)

    def points(self, run: str, tag: str, first: int = 0) -> Curve | None:
        """The visible points of a tag from a step on; None if it has none. Raises as `get` does."""
        query: dict[str, str | int | float | None] = {"run": run, "tag": tag, "from": first}
        series = self.get("/scalars", _Chart, **query).series
        return series[0] if series else None

    def verify(self, run: str) -> Iterator[VerifyLine]:
        """The lines of GET /verify as they come; the last one has the report. Raises as `get` does."""
        with self._streamed(_api(run_path("/verify", run)), _TIMEOUT) as response:
            for text in response:
                line = msgspec.json.decode(text, type=VerifyLine)
                if line.problem is not None:
                    raise ApiProblemError(line.problem)
                yield line

    def prune(self, run: str, body: PruneBody) -> Iterator[PruneLine]:
        """The lines of POST /prune as they come; the last one has the outcome. Raises as `get` does."""
        with self._streamed(_api(run_path("/prune", run)), _TIMEOUT, msgspec.json.encode(body)) as response:
            for text in response:
                line = msgspec.json.decode(text, type=PruneLine)
                if line.problem is not None:
                    raise ApiProblemError(line.problem)
                yield line

    def download(self, path: str, target: BinaryIO) -> int:
        """GET a path below /api/v1 into an open file; returns how many bytes came. Raises as `get` does."""
        with self._streamed(_api(path), _DOWNLOAD_TIMEOUT) as response:
            return sum(target.write(chunk) for chunk in response.stream(_CHUNK_BYTES))

    def export(self, run: str, form: str, tags: Sequence[str], attempts: str) -> tuple[str, Iterator[bytes]]:
        """GET /export: the file's name and its bytes as they come. Raises as `get` does, also while they come."""
        query = urlencode([("format", form), ("attempts", attempts), *(("tag", tag) for tag in tags)])
        pieces = self._pieces(_api(run_path("/export", run)) + f"?{query}")
        return next(pieces).decode(), pieces

    def is_alive(self) -> bool:
        """Whether a service answers here."""
        try:
            return self.raw("/healthz").status == 200
        except UnreachableError:
            return False

    def raw(self, path: str) -> urllib3.BaseHTTPResponse:
        """GET any path, whatever the answer. Raises UnreachableError."""
        return self._request("GET", path)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = JSON,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> urllib3.BaseHTTPResponse:
        headers = {**self._pool.headers, **more} | ({"Content-Type": content_type} if body is not None else {})
        try:
            return self._pool.request(method, self.url + path, body=body, headers=headers)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            if (distrust := trust.distrust(error)) is not None:
                raise UnreachableError(f"{self.url}: {distrust}") from error
            raise UnreachableError(
                f"no service answers at {self.url} ({_cause(error)}); start one with `tallyboard serve`, "
                "or set TALLYBOARD_URL to where it is"
            ) from error

    @contextmanager
    def _streamed(
        self, path: str, timeout: urllib3.Timeout, body: bytes | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """A GET, or POST of a JSON body, whose answer is read as it comes; if it breaks off, UnreachableError."""
        method = "GET" if body is None else "POST"
        headers = dict(self._pool.headers) | ({} if body is None else {"Content-Type": JSON})
        try:
            response = self._pool.request(
                method, self.url + path, body=body, headers=headers, preload_content=False, timeout=timeout
            )
            try:
                if response.status >= 400:
                    response.read(cache_content=True)
                    raise ApiProblemError(self._problem(response))
                yield response
            finally:
                response.release_conn()
                response.close()
        except (urllib3.exceptions.HTTPError, msgspec.DecodeError) as error:
            if (distrust := trust.distrust(error)) is not None:
                raise UnreachableError(f"{self.url}: {distrust}") from error
            raise UnreachableError(f"{self.url} broke off ({_cause(error)}); try again") from error

    def _pieces(self, path: str) -> Iterator[bytes]:
        """The name that a file is sent with, then the file, piece by piece."""
        with self._streamed(path, _TIMEOUT) as response:
            yield _file_name(response.headers.get("Content-Disposition", "")).encode()
            yield from response.stream(_CHUNK_BYTES)

    def _decode(self, response: urllib3.BaseHTTPResponse, kind: type[_T], also: int = 200) -> _T:
        """The body as `kind` if the request succeeded, or ended with the status `also`."""
        if response.status >= 400 and response.status != also:
            raise ApiProblemError(self._problem(response))
        try:
            return msgspec.json.decode(response.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreachableError(
                f"{self.url} answers, but not as Tallyboard does ({error}); is TALLYBOARD_URL right?"
            ) from error

    def _problem(self, response: urllib3.BaseHTTPResponse) -> Problem:
        """What the service says is wrong; of a token, in the words of the command line, not of HTTP."""
        try:
            problem = msgspec.json.decode(response.data, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreachableError(
                f"{self.url} answers with {response.status}, but not as Tallyboard does; is TALLYBOARD_URL right?"
            ) from error
        if problem.status == 401:
            said = problem.detail.partition(";")[0]
            wrong = said if self._has_token else f"{self.url} is protected by a token"
            problem = msgspec.structs.replace(problem, detail=f"{wrong}; set TALLYBOARD_TOKEN to one of the service's")
        return problem


def service_from(environment: Mapping[str, str] = os.environ, url: str | None = None) -> Service:
    """The service at `url`, else TALLYBOARD_URL, else this machine's default port; with TALLYBOARD_TOKEN and
    TALLYBOARD_CA_FILE, if set.

    Raises UnreachableError if that is no URL, or no file of authorities.
    """
    chosen = url or environment.get("TALLYBOARD_URL") or URL_DEFAULT
    if not chosen.startswith(("http://", "https://")):
        raise UnreachableError(f"TALLYBOARD_URL {chosen!r} is no URL; use for example {URL_DEFAULT}")
    ca_file = environment.get("TALLYBOARD_CA_FILE") or None
    if ca_file is not None and (fault := trust.ca_file_fault(ca_file)) is not None:
        raise UnreachableError(fault)
    return Service(chosen, environment.get("TALLYBOARD_TOKEN"), ca_file)


def run_path(prefix: str, run: str) -> str:
    """`/runs/project/name` with whatever the name holds percent-encoded."""
    return f"{prefix}/{quote(run, safe='/')}"


def _file_name(disposition: str) -> str:
    """The file's name in a Content-Disposition header, in ASCII."""
    return disposition.partition('filename="')[2].partition('"')[0]


def _api(path: str) -> str:
    return f"/api/v1{path}"


def _cause(error: Exception) -> str:
    """The innermost reason of a failed request, without the object it happened to."""
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition(": ")[2] or type(reason).__name__
