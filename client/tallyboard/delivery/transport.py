"""HTTP, and the one place where its errors and statuses are given a meaning."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import msgspec

from tallyboard.version import __version__
from tallyboard.wire import JSON, Problem

USER_AGENT: Final = f"tallyboard/{__version__}"
ANSWER_BYTES_MAX: Final = 1024 * 1024
"""Of an answer no more is read: a receipt lists at most 100 refusals."""
EXCERPT_CHARS_MAX: Final = 80
"""Of an answer that is no Tallyboard's so much is shown."""
RETRY_AFTER_S_MAX: Final = 300.0
CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 30.0


class UnreachableError(Exception):
    """No answer came; whether the request was carried out is not known."""


@dataclass(slots=True, frozen=True)
class Answer:
    """What the service said. retry_after_s: how long it wants to be left alone, if it said so."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class Transport(Protocol):
    """A way to the service."""

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """POST a body. Raises UnreachableError if no answer comes in bounded time."""
        ...

    def get(self, path: str) -> Answer:
        """GET. Raises UnreachableError as `post` does."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Meaning(Enum):
    """What an answer to a batch means for the sender."""

    TAKEN = "taken"
    LATER = "later"
    """Not now: send the same bytes again."""
    BAD_BATCH = "bad batch"
    """Never: the batch can't be taken, and its number is still free."""
    STOP = "stop"
    """Nothing more can be sent until a person does something."""


def meaning(answer: Answer, problem: Problem) -> Meaning:
    """What the status of an answer means, with the `code` of its problem where that tells more.

    Only a Tallyboard's own word ends anything: what a proxy says instead of it may be another tomorrow.
    """
    status = answer.status
    if 200 <= status < 300:
        return Meaning.TAKEN
    if not problem.code or is_busy(status) or problem.code == "damaged_body":  # cut on its way
        return Meaning.LATER
    if status in (400, 413, 415, 422) or problem.code in ("run_limit", "reports_refused"):
        return Meaning.BAD_BATCH
    return Meaning.STOP


def is_busy(status: int) -> bool:
    """Whether a status by itself says that another time will do."""
    return status in (408, 425, 429) or status >= 500


def problem_of(answer: Answer) -> Problem:
    """The problem+json of an answer; if what answered is no Tallyboard, one without a code that shows what came."""
    try:
        problem = msgspec.json.decode(answer.body, type=Problem)
        if problem.status == answer.status:
            return problem
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # a page, mostly
    return Problem(title="", status=answer.status, code="", detail=_excerpt(answer.body))


class HttpTransport:
    """One kept-alive connection, through urllib3. Retries are the sender's business, redirects are not followed."""

    def __init__(
        self,
        url: str,
        token: str | None,
        user_agent: str,
        *,
        ca_file: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """ca_file, fingerprint: see `wire.trust.pool_options`."""
        import urllib3  # here, so that `import tallyboard` does not load an HTTP client

        from tallyboard.wire import trust

        # What else the first request would import, on a thread of its own: a child that is forked within an import
        # which another thread has begun can never import the same itself.
        codecs.lookup("idna")
        self._url = url
        self._headers = {"User-Agent": user_agent, "Accept": JSON}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._foreign_errors = (urllib3.exceptions.HTTPError, OSError)
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            **trust.pool_options(ca_file, fingerprint),
        )
        self._distrust = trust.distrust

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """POST a body below the service's URL."""
        return self._request("POST", path, body, {**self._headers, "Content-Type": content_type})

    def get(self, path: str, *, bytes_max: int = ANSWER_BYTES_MAX) -> Answer:
        """GET below the service's URL; an answer of more than bytes_max bytes is none."""
        return self._request("GET", path, None, self._headers, bytes_max)

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        try:
            response = self._pool.request(
                method, self._url + path, body=body, headers=headers, redirect=False, preload_content=False
            )
            if "Content-Length" not in response.headers and not response.chunked:
                response.close()  # nobody could tell whether the connection broke within it, even within its head
                raise UnreachableError("an answer that is cut")
            data = response.read(bytes_max + 1)
            if len(data) > bytes_max:
                response.close()
                raise UnreachableError(f"an answer of more than {bytes_max} bytes")
            response.release_conn()
        except self._foreign_errors as error:
            raise UnreachableError(self._distrust(error) or _brief(error)) from error
        return Answer(response.status, data, _retry_after_s(response.headers))


def _excerpt(body: bytes) -> str:
    """The first characters, on one line, of any bytes."""
    words = body[: 4 * EXCERPT_CHARS_MAX].decode("utf-8", "replace").split()
    text = "".join(c if c.isprintable() else "?" for c in " ".join(words))
    return f"{text[:EXCERPT_CHARS_MAX]}…" if len(text) > EXCERPT_CHARS_MAX else text or "an empty body"


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, bounded. The form with a date is not understood, and then backoff decides."""
    text = headers.get("Retry-After", "").strip()
    return min(float(text), RETRY_AFTER_S_MAX) if text.isascii() and text.isdigit() else None


def _brief(error: BaseException) -> str:
    """The innermost cause in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.rpartition(": ")[2] or type(error).__name__
