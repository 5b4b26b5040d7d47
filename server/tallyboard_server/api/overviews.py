"""What pages ask before they draw: POST and GET /tags, GET /columns, GET /service."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Final

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.version import __version__
from tallyboard.wire import decode_message
from tallyboard.wire.limits import MIB
from tallyboard_server.api import cursors, etags, examples
from tallyboard_server.api.answers import answer, json_value, wants_msgpack
from tallyboard_server.api.documented import BODY, STORE, Given, Sent, documented
from tallyboard_server.api.etags import ETAG_TOLD
from tallyboard_server.api.globs import SCANNED_MAX, fixed_beginning, is_pattern, matcher
from tallyboard_server.api.overviewmessages import (
    AccessView,
    ColumnsAnswer,
    CounterColumn,
    KeyColumn,
    KindRow,
    ServiceAnswer,
    TagColumn,
    TagRow,
    TagsAnswer,
    TagsBody,
)
from tallyboard_server.api.problems import InvalidQueryError
from tallyboard_server.api.queries import RunPatterns, check_known
from tallyboard_server.api.reach import narrowed, of_project
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.principal import Principal
from tallyboard_server.runtable.overview import Key, counter_column, figure_column
from tallyboard_server.store.perrun import every_run, named_runs
from tallyboard_server.store.protocol import RunVersion, Store

TAGS_MAX: Final = 10_000
"""Most tags in one answer."""
RUNS_MAX: Final = 10_000
"""Most runs that one answer is about, and most names in one question."""
COLUMNS_MAX: Final = 2_000
"""Most columns of a kind in one answer."""
BODY_BYTES_MAX: Final = 8 * MIB

router = APIRouter(tags=["dashboard"])


@dataclass(slots=True, frozen=True)
class _Chosen:
    heads: list[RunVersion]
    missing: list[str]


_TAGS_ANSWERS: Final = {
    200: Given(TagsAnswer, examples.TAGS, "The tags, in order.", {"ETag": ETAG_TOLD}),
    304: Given(None, None, "The reader has this answer already: its ETag came in If-None-Match."),
}


@router.post(
    "/tags",
    **documented(
        "post_tags",
        "List the tags of many runs",
        needs="read",
        sent=Sent(TagsBody, examples.TAGS_ASKED),
        answers=_TAGS_ANSWERS,
        problems=("invalid_query", *BODY, *STORE),
    ),
)
async def post_tags(request: Request, service: Running, asking: Asking) -> Response:
    """The same as GET /tags, with the runs in a document: a thousand names don't fit into a URL."""
    async with service.bodies.body(request, bytes_max=BODY_BYTES_MAX) as body:
        asked = decode_message(body.data, body.content_type, TagsBody)
    if not 1 <= asked.limit <= TAGS_MAX:
        raise InvalidQueryError(f"from 1 to {TAGS_MAX} tags", field="limit")
    return await _tags(request, service, asking, asked.runs, asked.limit)


@router.get(
    "/tags", **documented("get_tags", "List the tags of some runs", needs="read", answers=_TAGS_ANSWERS,
                          problems=("invalid_query", *STORE))
)  # fmt: skip
async def get_tags(
    request: Request,
    service: Running,
    asking: Asking,
    run: RunPatterns,
    limit: Annotated[int, Query(ge=1, le=TAGS_MAX, description="At most so many tags.")] = 1_000,
) -> Response:
    """The scalar tags that have visible points in any of these runs, in how many of them, and on which counters.

    `kinds` are tags that are no scalars (images, text, histograms, …), which TensorBoard shows. Runs that are not there
    are listed as `missing`. If there are more tags than asked for, those that most runs have are answered.
    """
    check_known(request, ("run", "limit"))
    return await _tags(request, service, asking, run, limit)


@router.get(
    "/columns",
    **documented(
        "columns",
        "Say what a table of runs can show",
        needs="read",
        answers={
            200: Given(ColumnsAnswer, examples.COLUMNS, "Columns by kind, each in order.", {"ETag": ETAG_TOLD}),
            304: Given(None, None, "The reader has this answer already: its ETag came in If-None-Match."),
        },
        problems=("invalid_query", *STORE),
    ),
)
async def columns(
    request: Request,
    service: Running,
    asking: Asking,
    project: Annotated[str | None, Query(description="What the runs' names begin with, up to a slash.")] = None,
    limit: Annotated[int, Query(ge=1, le=COLUMNS_MAX, description="At most so many columns of each kind.")] = 500,
) -> Response:
    """Keys of config and summary, tags and counters that any of the runs has, in how many, and what the values of keys
    are: enough to offer columns, groups and axes. Columns are written as GET /runs takes them.

    Nested objects are gone into: `config.net.depth`. Of a run's document at most 500 keys are looked at.
    """
    check_known(request, ("project", "limit"))

    def choose() -> _Chosen:
        heads = every_run(service.store, prefix=of_project(asking, project))
        return _Chosen(list(islice(heads, RUNS_MAX + 1)), [])

    def make(chosen: _Chosen) -> ColumnsAnswer:
        found = service.overview.columns(chosen.heads[:RUNS_MAX], limit)
        return ColumnsAnswer(
            runs=found.runs,
            config=[_key_column(key) for key in found.config],
            summary=[_key_column(key) for key in found.summary],
            tags=[TagColumn(column=figure_column(tag), tag=tag, runs=runs) for tag, runs in found.tags],
            counters=[
                CounterColumn(column=counter_column(name), counter=name, runs=runs, totals=totals)
                for name, runs, totals in found.counters
            ],
            truncated=found.truncated or len(chosen.heads) > RUNS_MAX,
        )

    return await _answered(request, service, ("columns", limit), choose, make)


@router.get(
    "/service",
    **documented(
        "service",
        "Say what this service is",
        needs="read",
        answers={200: Given(ServiceAnswer, examples.SERVICE, "Its version, clock, and what there is besides.")},
        problems=("invalid_query",),
    ),
)
async def service_itself(request: Request, service: Running, asking: Asking) -> Response:
    """What a page has to know before it asks for anything."""
    check_known(request, ())
    settings = service.settings
    return answer(
        request,
        ServiceAnswer(
            version=__version__,
            boot=service.live.boot,
            now=service.clock(),
            tensorboard=settings.tensorboard,
            protected=not service.access.is_open,
            access=AccessView(name=asking.name, scope=asking.scope, project=asking.project),
            logdir=settings.logdir_shown if asking.project is None else None,
            lost_after_s=settings.lost_after_s,
        ),
        headers={"Cache-Control": "no-store"},
    )


async def _tags(request: Request, service: Service, asking: Principal, runs: Sequence[str], limit: int) -> Response:
    if not runs:
        raise InvalidQueryError("name at least one run, or a pattern", field="runs")
    if len(runs) > RUNS_MAX:
        raise InvalidQueryError(f"{len(runs)} names; at most {RUNS_MAX}", field="runs")

    def make(chosen: _Chosen) -> TagsAnswer:
        found = service.overview.tags(chosen.heads, limit)
        return TagsAnswer(
            runs=found.runs,
            tags=[TagRow(tag=tag, runs=sum(by.values()), counters=by) for tag, by in found.scalars.items()],
            kinds=[
                KindRow(kind=kind, tags=list(tags)[:limit], runs=max(tags.values()))
                for kind, tags in found.kinds.items()
            ],
            missing=chosen.missing,
            truncated=found.truncated,
        )

    return await _answered(request, service, ("tags", limit), lambda: _choose(service.store, asking, runs), make)


async def _answered(
    request: Request,
    service: Service,
    asked: tuple[Any, ...],
    choose: Callable[[], _Chosen],
    make: Callable[[_Chosen], Any],
) -> Response:
    """An answer that hangs on the runs' versions, made only if the reader does not have it."""
    known, binary = etags.known_etags(request), wants_msgpack(request)

    def work() -> Response:
        chosen = choose()
        versions = [(head.run_id, head.version) for head in chosen.heads]
        etag = f'W/"{cursors.digest(asked, binary, versions, chosen.missing).hex()}"'
        if etags.is_known(etag, known):
            return Response(status_code=304, headers=etags.headers(etag))
        return answer(request, make(chosen), headers=etags.headers(etag))

    return await anyio.to_thread.run_sync(work, limiter=service.chart_reads)


def _choose(store: Store, asking: Principal, runs: Sequence[str]) -> _Chosen:
    """The runs within reach that are meant, each once, and what stands for none.

    Raises InvalidQueryError if they are too many.
    """
    names = {run for run in runs if not is_pattern(run)}
    found = {head.name: head for head in named_runs(store, set(filter(asking.reaches, names)))}
    missing = [run for run in dict.fromkeys(runs) if run in names and run not in found]
    for pattern in dict.fromkeys(run for run in runs if run not in names):
        fits = list(islice(_matching(store, asking, pattern), RUNS_MAX + 1))
        found.update((head.name, head) for head in fits)
        if not fits:
            missing.append(pattern)
        if len(found) > RUNS_MAX:
            raise InvalidQueryError(f"more than {RUNS_MAX} runs; say more of their names", field="runs")
    return _Chosen([found[name] for name in sorted(found)], missing)


def _matching(store: Store, asking: Principal, pattern: str) -> Iterator[RunVersion]:
    fits = matcher(pattern)
    for seen, head in enumerate(every_run(store, prefix=narrowed(asking, fixed_beginning(pattern)))):
        if seen >= SCANNED_MAX:
            raise InvalidQueryError(
                f"{pattern!r} has to be looked for among more than {SCANNED_MAX} runs", field="runs"
            )
        if fits.fullmatch(head.name):
            yield head


def _key_column(key: Key) -> KeyColumn:
    return KeyColumn(
        column=key.column,
        runs=key.runs,
        sorts={sort: key.sorts[sort] for sort in sorted(key.sorts)},
        distinct=key.distinct,
        values=[json_value(value) for value in key.values],
        least=key.least,
        greatest=key.greatest,
    )
