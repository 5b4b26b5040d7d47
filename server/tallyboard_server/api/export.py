"""GET /export: every point of a run as a file, streamed."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Annotated, Final, Literal
from urllib.parse import quote

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from tallyboard.wire import MSGPACK
from tallyboard.wire.limits import KIB
from tallyboard_server.api import examples
from tallyboard_server.api.documented import STORE, Given, documented
from tallyboard_server.api.names import RunName
from tallyboard_server.api.problems import InvalidQueryError, NotInstalledError, TooBusyError
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.reading import load_run
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.export import FORMATS, Export, ExportBrokenError, MissingPartError, UnfitFormatError, Wanted
from tallyboard_server.store.protocol import StoreError

SENT_AT_ONCE: Final = 256 * KIB
PATTERNS_MAX: Final = 1_000

_PARAMETERS: Final = ("format", "tag", "attempts", "x")
_DOCUMENTED: Final = documented(
    "export",
    "Download every point of a run",
    needs="read",
    answers={200: Given(bytes, None, "The file; its name is in Content-Disposition.", media_type=MSGPACK)},
    problems=(
        "invalid_run_name", "invalid_query", "unknown_axis", "run_not_found", "run_deleted", "not_installed",
        "too_busy", *STORE,
    ),
)  # fmt: skip
_DOCUMENTED["responses"][200]["content"] |= {
    "text/csv": {"schema": {"type": "string"}, "example": examples.EXPORTED_CSV},
    "application/x-ndjson": {"schema": {"type": "string"}, "example": examples.EXPORTED_JSONL},
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
}

log = logging.getLogger(__name__)
router = APIRouter(tags=["charts"])


@router.get("/export/{run:path}", **_DOCUMENTED)
async def export(
    request: Request,
    service: Running,
    asking: Asking,
    run: RunName,
    form: Annotated[
        Literal["csv", "jsonl", "parquet", "tfevents", "msgpack"],
        Query(alias="format", description="The kind of file."),
    ] = "csv",
    tag: Annotated[
        list[str] | None, Query(description="A tag, or a pattern as in a shell: val/*; may be repeated. Absent: all.")
    ] = None,
    attempts: Annotated[
        Literal["visible", "all"], Query(description="all: superseded points, too, each with its attempt.")
    ] = "visible",
    x: Annotated[
        str | None, Query(description="With msgpack: a counter, to be told in blocks' `x` where it stood.")
    ] = None,
) -> Response:
    """One line or row a point: run, counter, step, wall_time, tag, value; with `attempts=all` attempt and superseded.

    The points are those that are visible when the export begins, in the order of counters, then steps, then tags (of
    a run with very many tags, 64 at a time). Floats read back bit for bit; NaN, Infinity and -Infinity are spelled
    so. `tfevents` is an event file as TensorBoard reads it (values as float32, visible points only). `msgpack` is a
    sequence of MessagePack binaries, each of which holds a map: {run, version}, blocks of columns, {end} or {failed}.

    A file that is not whole breaks the connection off: if the run is deleted or pruned meanwhile, if the store fails,
    if nothing is taken for a minute, or if the token ends. Its last chunk is then missing, which every HTTP client
    reports.
    """
    check_known(request, _PARAMETERS)
    wanted = Wanted(tuple(dict.fromkeys(tag or ())), superseded=attempts == "all", x=x)
    if len(wanted.tags) > PATTERNS_MAX:
        raise InvalidQueryError(f"{len(wanted.tags)} tags; at most {PATTERNS_MAX}, or a pattern", field="tag")
    made = await anyio.to_thread.run_sync(_made, service, run, form, wanted, limiter=service.chart_reads)
    if service.exports.available_tokens < 1:
        busy = int(service.exports.total_tokens)
        raise TooBusyError(f"{busy} exports are being sent already; retry when one is done")
    return _ExportResponse(made, service, partial(service.access.is_good, asking))


def _made(service: Service, run: str, form: str, wanted: Wanted) -> Export:
    with service.store.snapshot() as view:
        state = load_run(view, run)
    try:
        return Export(service.store, state, FORMATS[form], wanted)
    except MissingPartError as error:
        raise NotInstalledError(str(error), field="format") from error
    except UnfitFormatError as error:
        raise InvalidQueryError(str(error), field=error.field) from error


class _ExportResponse(StreamingResponse):
    """Sends an export; one that can't be finished ends without its last chunk, so that nobody takes it for whole."""

    def __init__(self, export: Export, service: Service, may_go_on: Callable[[], bool]) -> None:
        self._may_go_on = may_go_on
        self._pieces = _pieces(export.pieces(), service.chart_reads)
        super().__init__(self._pieces, media_type=export.media_type)
        self._limiter: CapacityLimiter = service.exports
        self._name = export.file_name
        self.headers["Content-Disposition"] = (
            f"attachment; filename=\"{_ascii(self._name)}\"; filename*=UTF-8''{quote(self._name, safe='')}"
        )

    async def stream_response(self, send: Send) -> None:
        """As StreamingResponse does, but that it may end early."""
        async with self._limiter:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                async for piece in self._pieces:
                    if not self._may_go_on():
                        raise ExportBrokenError("the token of whoever asked was revoked, or has expired")
                    for first in range(0, len(piece), SENT_AT_ONCE):
                        part = piece[first : first + SENT_AT_ONCE]
                        await send({"type": "http.response.body", "body": part, "more_body": True})
            except (ExportBrokenError, StoreError) as error:
                log.warning("the export %s was broken off: %s", self._name, error)
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pieces(pieces: Iterator[bytes], limiter: CapacityLimiter) -> AsyncIterator[bytes]:
    """The pieces as they are made, each in a thread; at most as many at once as charts are read."""
    while (piece := await anyio.to_thread.run_sync(next, pieces, None, limiter=limiter)) is not None:
        yield piece


def _ascii(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
