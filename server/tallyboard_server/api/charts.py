"""Chart data: what many runs × tags show, as points or buckets, along any x axis."""

import math
import re
from typing import Annotated, Any, Final

import anyio.to_thread
from fastapi import APIRouter, Query
from pydantic import PlainValidator, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import decode_message
from tallyboard.wire.limits import MIB
from tallyboard_server.api import etags, examples
from tallyboard_server.api.answers import answer, wants_msgpack
from tallyboard_server.api.chartmessages import Attempts, Chart, Field, QueryBody
from tallyboard_server.api.documented import BODY, STORE, Given, Sent, documented
from tallyboard_server.api.etags import ETAG_TOLD, known_etags
from tallyboard_server.api.problems import InvalidQueryError
from tallyboard_server.api.queries import RunPatterns, check_known
from tallyboard_server.api.query import BUCKETS_MAX, SERIES_MAX, Asked, answer_query
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.principal import Principal
from tallyboard_server.series import Question

QUERY_BYTES_MAX: Final = 8 * MIB
"""Largest body of a query: ten thousand names, and a cursor."""

_PARAMETERS: Final = ("run", "tag", "x", "from", "to", "buckets", "attempts", "group", "since", "field")
_COLUMNS: Final = (
    "Columns are binary, little-endian: step, count and nonfinite int64, wall_time, value, mean and the rest float64, "
    "x int64 along a counter and else float64."
)
_PROBLEMS: Final = ("invalid_query", "unknown_axis", "too_many_points", "history_changing", *STORE)
_ANSWERS: Final = {
    200: Given(
        Chart, examples.CHART, "Series in the order of runs, then tags.", msgpack=_COLUMNS,
        headers={"ETag": ETAG_TOLD},
    ),
    304: Given(None, None, "The reader has this answer already: its ETag came in If-None-Match."),
}  # fmt: skip

router = APIRouter(tags=["charts"])


def _number(text: Any) -> float:
    """A whole number exactly: steps may be beyond what a float64 tells apart."""
    if isinstance(text, str) and re.fullmatch(r"[+-]?\d{1,30}", text):
        return int(text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a finite number is wanted")
    return number


_Number = Annotated[float, PlainValidator(_number), WithJsonSchema({"type": "number"})]


@router.get("/scalars", **documented("get_scalars", "Read charts of many runs and tags", needs="read", answers=_ANSWERS,
                                     problems=_PROBLEMS))  # fmt: skip
async def get_scalars(
    request: Request,
    service: Running,
    asking: Asking,
    run: RunPatterns,
    tag: Annotated[
        list[str] | None,
        Query(description="A tag, or a pattern of tags such as `val/*`; may be repeated. Absent: every tag."),
    ] = None,
    x: Annotated[
        str, Query(description="step, wall_time, relative (seconds since the first point), or a counter's name.")
    ] = "step",
    first: Annotated[_Number | None, Query(alias="from", description="The least x wanted.")] = None,
    last: Annotated[_Number | None, Query(alias="to", description="The largest x wanted.")] = None,
    buckets: Annotated[
        int | None,
        Query(ge=1, le=BUCKETS_MAX, description="Series of more points come in at most so many buckets each."),
    ] = None,
    attempts: Annotated[
        Attempts, Query(description="all: superseded points, too, as series of their own, marked as such.")
    ] = "visible",
    group: Annotated[
        str | None,
        Query(description="A config key (dots reach into nested objects): `groups` of the runs with the same value "
              "there, in the place of series. `run.ranks`: the ranks of each run; `run.all`: all runs."),
    ] = None,
    since: Annotated[
        str | None, Query(description="The `cursor` of an answer to the same question: only what is new since.")
    ] = None,
    field: Annotated[
        list[Field] | None,
        Query(description="What of each bucket is wanted, for smaller answers; may be repeated. Absent: everything."),
    ] = None,
) -> Response:  # fmt: skip
    """Visible points, exactly as reported, ascending by step; `*` and `?` in names are wildcards.

    With `buckets`, a series of more points than that comes in buckets of equal width along x, each of which says
    exactly what a walk over its points would find: first, least, greatest and last of them, count, mean, and how many
    are not finite. A bucket begins and ends at points, never cuts one twice, and none is left out.

    Along another counter x is that counter's value as recorded with the report (its `at`), or else as of the
    report's wall time; `x_source` says which. Nothing goes back along any axis: x is the largest so far. Runs and tags
    that are not there are listed as `missing`.

    With `since`, unchanged series are left out; those with `append` true go on where the reader's end (points, or
    buckets of the new points only), the others replace what the reader has, and what is `missing` is gone.

    With `field`, each series has `lean` columns of nothing else, a third of the bytes of all of them.
    """
    check_known(request, _PARAMETERS)
    question = Question(x, first, last, buckets, superseded=attempts == "all")
    asked = Asked(
        _once(run), _once(tag or ()), question, group, since, wants_msgpack(request), tuple(dict.fromkeys(field or ()))
    )
    return await _answered(request, service, asked, asking)


@router.post(
    "/query",
    **documented(
        "query",
        "Read charts of very many runs and tags",
        needs="read",
        sent=Sent(QueryBody, examples.QUERIES),
        answers=_ANSWERS,
        problems=(*_PROBLEMS, *BODY),
    ),
)
async def query(request: Request, service: Running, asking: Asking) -> Response:
    """The same as GET /scalars, with the question as a document: a thousand names don't fit into a URL."""
    async with service.bodies.body(request, bytes_max=QUERY_BYTES_MAX) as body:
        asked = decode_message(body.data, body.content_type, QueryBody)
    for name, bound in (("from", asked.first), ("to", asked.last)):
        if bound is not None and not math.isfinite(bound):
            raise InvalidQueryError("a finite number is wanted", field=name)
    if asked.buckets is not None and not 1 <= asked.buckets <= BUCKETS_MAX:
        raise InvalidQueryError(f"from 1 to {BUCKETS_MAX} buckets, or none for every point", field="buckets")
    if not asked.runs:
        raise InvalidQueryError("name at least one run, or a pattern", field="runs")
    question = Question(asked.x, asked.first, asked.last, asked.buckets, superseded=asked.attempts == "all")
    fields = tuple(dict.fromkeys(asked.fields))
    found = Asked(
        _once(asked.runs), _once(asked.tags), question, asked.group, asked.since, wants_msgpack(request), fields
    )
    return await _answered(request, service, found, asking)


async def _answered(request: Request, service: Service, asked: Asked, asking: Principal) -> Response:
    _check(asked)
    known = known_etags(request)

    def work() -> Response:
        found = answer_query(service, asked, known, asking)
        headers = etags.headers(found.etag)
        if found.chart is None:
            return Response(status_code=304, headers=headers)
        return answer(request, found.chart, headers=headers)

    return await anyio.to_thread.run_sync(work, limiter=service.chart_reads)


def _check(asked: Asked) -> None:
    for field, names in (("run", asked.runs), ("tag", asked.tags)):
        if len(names) > SERIES_MAX:
            raise InvalidQueryError(f"{len(names)} names; at most {SERIES_MAX}", field=field)
    if asked.group is None:
        return
    if not asked.group:
        raise InvalidQueryError("name a config key, such as lr or model.depth", field="group")
    if asked.question.superseded:
        raise InvalidQueryError("groups are made of visible points only; leave attempts out", field="attempts")
    if asked.since is not None:
        raise InvalidQueryError("groups come whole; leave since out, and use If-None-Match", field="since")
    if asked.fields:
        raise InvalidQueryError("groups have columns of their own; leave fields out", field="fields")


def _once(names: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
