"""Chart data: the visible points of many runs × tags."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer, binary_column, json_column, wants_msgpack
from tallyboard_server.api.documented import STORE, Given, documented
from tallyboard_server.api.messages import Chart, Missing, Points, Series
from tallyboard_server.api.problems import InvalidQueryError
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.service import Running, Service
from tallyboard_server.api.views import visible_tags
from tallyboard_server.model import RunState
from tallyboard_server.series import points as series_points
from tallyboard_server.series.points import read_points
from tallyboard_server.series.question import PointsTooManyError, UnknownAxisError

SERIES_MAX: Final = 1_000
"""Most runs × tags in one answer."""

_PARAMETERS: Final = ("run", "tag", "x", "from", "to")
_COLUMNS: Final = "Columns are binary, little-endian: step int64, wall_time and value float64, x int64 or float64."

router = APIRouter(tags=["charts"])


@dataclass(slots=True, frozen=True)
class Question:
    """What is asked for: every tag of `tags` (none: all) of every run, with first ≤ x ≤ last."""

    runs: Sequence[str]
    tags: Sequence[str]
    x: str
    first: float | None
    last: float | None
    points_max: int
    binary: bool


@dataclass(slots=True)
class _Collected:
    series: list[Series] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    points: int = 0


@router.get(
    "/scalars",
    **documented(
        "get_scalars",
        "Read points of many runs and tags",
        answers={200: Given(Chart, examples.CHART, "Series in the order of runs, then tags.", msgpack=_COLUMNS)},
        problems=("invalid_query", "unknown_axis", "too_many_points", *STORE),
    ),
)
async def get_scalars(
    request: Request,
    service: Running,
    run: Annotated[
        list[str], Query(description="A run; may be repeated.", openapi_examples={"run": {"value": [examples.RUN]}})
    ],
    tag: Annotated[list[str] | None, Query(description="A tag; may be repeated. Absent: every tag.")] = None,
    x: Annotated[
        str, Query(description="step, wall_time, relative (seconds since the first point), or a counter's name.")
    ] = "step",
    first: Annotated[float | None, Query(alias="from", allow_inf_nan=False, description="The least x wanted.")] = None,
    last: Annotated[float | None, Query(alias="to", allow_inf_nan=False, description="The largest x wanted.")] = None,
) -> Response:
    """Every visible point, exactly as reported, ascending by step.

    Along another counter x is that counter's value as recorded with the report (its `at`), or else as of the
    report's wall time; `x_source` says which. Runs and tags that are not there are listed as `missing`.
    """
    check_known(request, _PARAMETERS)
    asked = Question(
        list(dict.fromkeys(run)), list(dict.fromkeys(tag or ())), x, first, last,
        service.settings.points_per_answer_max, wants_msgpack(request),
    )  # fmt: skip
    if len(asked.runs) * max(1, len(asked.tags)) > SERIES_MAX:
        raise InvalidQueryError(f"{len(asked.runs)} runs × {len(asked.tags)} tags; at most {SERIES_MAX}", field="run")

    def work() -> Response:
        return answer(request, read_chart(service, asked))

    return await anyio.to_thread.run_sync(work, limiter=service.chart_reads)


def read_chart(service: Service, asked: Question) -> Chart:
    """The answer to a question; each series is read in a snapshot of its own."""
    found = _Collected()
    known_axis = False
    unknown: UnknownAxisError | None = None
    for run in asked.runs:
        with service.store.snapshot() as view:
            state = view.load(run)
        if state is None:
            found.missing.append(Missing(run=run))
            continue
        try:
            _collect(service, state, asked, found)
            known_axis = True
        except UnknownAxisError as error:
            unknown = error
            found.missing.append(Missing(run=run, x=asked.x))
    if unknown is not None and not known_axis:
        raise unknown
    return Chart(x=asked.x, series=found.series, missing=found.missing)


def _collect(service: Service, state: RunState, asked: Question, found: _Collected) -> None:
    for tag in _tags(state, asked):
        if len(found.series) >= SERIES_MAX:
            raise PointsTooManyError(f"more than {SERIES_MAX} series; name the tags that are wanted")
        try:
            with service.store.snapshot() as view:
                points = read_points(
                    view, state, tag, x=asked.x, first=asked.first, last=asked.last,
                    points_max=asked.points_max - found.points,
                )  # fmt: skip
        except PointsTooManyError as error:
            raise PointsTooManyError(
                f"more than {asked.points_max} points in all; narrow the range with from= and to=, or ask for fewer "
                "runs and tags at once"
            ) from error
        if points is None:
            found.missing.append(Missing(run=state.name, tag=tag))
            continue
        found.points += len(points.steps)
        found.series.append(_series(state.name, tag, points, asked))


def _tags(state: RunState, asked: Question) -> Iterator[str]:
    if asked.tags:
        yield from asked.tags
        return
    by_counter = visible_tags(state)
    yield from sorted(name for names in by_counter.values() for name in names)


def _series(run: str, tag: str, points: series_points.Points, asked: Question) -> Series:
    column = binary_column if asked.binary else json_column
    return Series(
        run=run,
        tag=tag,
        counter=points.counter,
        count=len(points.steps),
        points=Points(
            step=column(points.steps),
            wall_time=column(points.wall_times),
            value=column(points.values),
            x=None if asked.x == "step" else column(points.x),
        ),
        x_source=None if points.x_source == "own" else points.x_source,
    )
