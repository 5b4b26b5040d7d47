"""Reading request bodies: type, encoding, size, time and memory are all settled before a byte is decoded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Receive

from tallyboard.wire import JSON, MSGPACK
from tallyboard.wire.limits import BODY_BYTES_MAX, KIB
from tallyboard_server.api import compression
from tallyboard_server.api.problems import (
    BodyDamagedError,
    BodyTimeoutError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
)
from tallyboard_server.ingest.errors import OverloadedError

DOCUMENT_BYTES_MAX: Final = 512 * KIB
"""Largest body of the routes that take a few documents and names rather than reports."""

PROJECT_BYTES_MIN: Final = 2 * BODY_BYTES_MAX
"""A body as it came and unpacked: with less, one of the largest would be refused for ever."""
_RETRY_AFTER_S: Final = 1.0
_BUDGET_STEP_BYTES: Final = 256 * KIB
"""What is taken of the budget at a time when a body does not say how long it is."""
_INLINE_BYTES_MAX: Final = 8 * KIB
"""Compressed bodies up to this size are taken apart at once: a thread would cost more than they do."""
_UNPACKING_AT_ONCE_MAX: Final = 2
_DISCARD_BYTES_MAX: Final = 2 * BODY_BYTES_MAX
"""How much of an oversized body is read and thrown away, so that the client gets to read the answer."""

_MSGPACK_TYPES: Final = frozenset({MSGPACK, "application/x-msgpack", "application/vnd.msgpack"})
_FORM: Final = "application/x-www-form-urlencoded"


class Budget(Protocol):
    """Bytes that may wait at once."""

    def add(self, nbytes: int) -> None:
        """Take nbytes; raises OverloadedError if they can't be had."""
        ...

    def give_back(self, nbytes: int) -> None:
        """Return nbytes that were taken."""
        ...


class _ProjectShares:
    """What requests hold of a budget whose tokens are for one project: so much at most, lest bodies that never come
    keep out the reports of others. Nothing is kept of projects that hold nothing."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: dict[str, int] = {}

    def add(self, project: str, nbytes: int) -> None:
        held = self._held.get(project, 0) + nbytes
        if held > self._bytes_max:
            raise OverloadedError(f"bodies of project {project!r} hold its share of memory; retry", _RETRY_AFTER_S)
        self._held[project] = held

    def give_back(self, project: str, nbytes: int) -> None:
        if (left := self._held.get(project, 0) - nbytes) > 0:
            self._held[project] = left
        else:
            self._held.pop(project, None)


@dataclass(slots=True)
class _Held:
    """What one request holds of the budget. project: the one of its token (the first part of its name), if any."""

    budget: Budget
    shares: _ProjectShares
    project: str | None
    nbytes: int = 0

    def take(self, nbytes: int) -> None:
        """Take more. Raises OverloadedError."""
        self.budget.add(nbytes)
        if self.project is not None:
            try:
                self.shares.add(self.project, nbytes)
            except OverloadedError:
                self.budget.give_back(nbytes)
                raise
        self.nbytes += nbytes

    def give_back(self) -> None:
        """Return all."""
        self.budget.give_back(self.nbytes)
        if self.project is not None:
            self.shares.give_back(self.project, self.nbytes)


@dataclass(slots=True, frozen=True)
class Body:
    """A body as it is decoded: no longer compressed, and of a known type (wire.JSON, wire.MSGPACK, or another)."""

    data: bytes
    content_type: str


class BodyReader:
    """Reads bodies under one budget of bytes and one limit of time."""

    def __init__(
        self,
        budget: Budget,
        timeout_s: float,
        bytes_max: int = BODY_BYTES_MAX,
        *,
        project_of: Callable[[Request], str | None] = lambda _: None,
        project_bytes_max: int = 0,
    ) -> None:
        """bytes_max: of any body, before and after decompression. project_of: the project whose runs alone a request's
        token reaches; project_bytes_max: of the budget for such requests of one project, at least PROJECT_BYTES_MIN.
        """
        self._project_of = project_of
        self._shares = _ProjectShares(max(project_bytes_max, PROJECT_BYTES_MIN))
        self._budget = budget
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._unpacking = asyncio.Semaphore(_UNPACKING_AT_ONCE_MAX)

    @asynccontextmanager
    async def body(
        self,
        request: Request,
        *,
        bytes_max: int = BODY_BYTES_MAX,
        optional: bool = False,
        others: tuple[str, ...] = (),
    ) -> AsyncIterator[Body]:
        """The request's body, whose bytes count against the budget until the block ends.

        optional: none at all is fine and needs no content type. others: types taken besides JSON and
        MessagePack. Raises an ApiError or OverloadedError.
        """
        headers = request.headers
        bytes_max = min(bytes_max, self._bytes_max)
        length = headers.get("content-length")
        declared = int(length) if length is not None and length.isdigit() else 0
        if optional and declared == 0 and "transfer-encoding" not in headers:
            yield Body(b"", JSON)
            return
        content_type = check_content_type(headers.get("content-type"), others)
        encoding = compression.check_encoding(headers.get("content-encoding", ""))
        project = self._project_of(request)
        held = _Held(self._budget, self._shares, None if project is None else project.partition("/")[0])
        try:
            data = await self._received(request, declared, bytes_max, held)
            if encoding != "identity":
                data = await self._unpack(data, encoding, bytes_max)
                held.take(len(data))
            yield Body(data, content_type)
        finally:
            held.give_back()

    async def _received(self, request: Request, declared: int, bytes_max: int, held: _Held) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                if declared > bytes_max:
                    if request.headers.get("expect", "").lower() != "100-continue":
                        await _discard(request.receive)
                    raise _too_large(bytes_max)
                held.take(declared)
                return await _read(request.receive, bytes_max, held)
        except TimeoutError as error:
            raise BodyTimeoutError(f"the body did not arrive within {self._timeout_s:g} s") from error

    async def _unpack(self, data: bytes, encoding: str, bytes_max: int) -> bytes:
        if len(data) <= _INLINE_BYTES_MAX:
            return compression.decompress(data, encoding, bytes_max=bytes_max)
        async with self._unpacking:
            return await run_in_threadpool(compression.decompress, data, encoding, bytes_max=bytes_max)


async def _read(receive: Receive, bytes_max: int, held: _Held) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyDamagedError("the connection closed before the body was complete")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            await _discard(receive)
            raise _too_large(bytes_max)
        if size > held.nbytes:
            held.take(max(_BUDGET_STEP_BYTES, size - held.nbytes))
        if chunk:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def check_content_type(content_type: str | None, others: tuple[str, ...] = ()) -> str:
    """Return wire.JSON, wire.MSGPACK or one of the others, or raise UnsupportedMediaTypeError saying what to send."""
    if content_type in (MSGPACK, JSON):
        return content_type
    kind, _, parameters = (content_type or "").lower().partition(";")
    kind = kind.strip()
    charset = parameters.partition("charset=")[2].strip(' "')
    if kind in _MSGPACK_TYPES:
        return MSGPACK
    if kind == JSON and charset in ("", "utf-8", "utf8"):
        return JSON
    if kind in others:
        return kind
    hint = f"send {JSON} (UTF-8) or {' or '.join((MSGPACK, *others))}"
    if kind == _FORM:
        hint += "; with curl, use --json in the place of -d"
    found = f"content type {content_type[:100]!r} is not taken" if content_type else "the content type is missing"
    raise UnsupportedMediaTypeError(f"{found}; {hint}", field="content-type")


async def _discard(receive: Receive) -> None:
    left = _DISCARD_BYTES_MAX
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def _too_large(bytes_max: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {bytes_max} bytes; send smaller batches")
