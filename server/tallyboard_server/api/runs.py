"""Runs: create or continue, search, show, change, delete."""

from typing import Annotated, Any, Final
from urllib.parse import quote

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import (
    JSON,
    Batch,
    InvalidBatchError,
    InvalidNameError,
    Open,
    Resume,
    check_document,
    check_open,
    check_plain_text,
    check_tag,
    decode_message,
)
from tallyboard.wire.limits import REFUSED_KEPT_PER_RUN_MAX
from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer, encoder
from tallyboard_server.api.body import DOCUMENT_BYTES_MAX
from tallyboard_server.api.documented import BODY, STORE, WRITE, Given, Sent, documented, reference
from tallyboard_server.api.messages import RunPage, RunPatch, RunTablePage, RunView, ShownStatus
from tallyboard_server.api.names import RunName
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.reach import of_project
from tallyboard_server.api.reading import load_run
from tallyboard_server.api.reports import checked_producer
from tallyboard_server.api.search import LIMIT_MAX, NAMES_MAX, Asked, RunFilter, config_filter, find_runs
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.api.views import run_view
from tallyboard_server.ingest.commands import Append, Delete, Patch
from tallyboard_server.model import RunState
from tallyboard_server.runtable.parse import COLUMNS_EXAMPLE, FILTER_EXAMPLE, SORT_EXAMPLE

router = APIRouter(tags=["runs"])

INCIDENTS_SHOWN_MAX: Final = 100
"""Of one run; GET /incidents lists more."""

_PARAMETERS: Final = (
    "project", "run", "status", "q", "group", "archived", "filter", "columns", "sort", "limit", "cursor",
    "config.<key>",
)  # fmt: skip


@router.put(
    "/runs/{run:path}",
    **documented(
        "put_run",
        "Create a run, or go on with one",
        needs="write",
        sent=Sent(Open, examples.OPEN, required=False),
        answers={
            200: Given(RunView, examples.RUN_VIEW, "The run was there; this is how it stands."),
            201: Given(RunView, examples.RUN_VIEW, "Created.", {"Location": "Where the run is."}),
        },
        problems=("invalid_run_name", "invalid_query", "run_not_found", "run_deleted", "run_exists", "run_limit",
                  "project_full", *BODY, *WRITE),
    ),
)  # fmt: skip
async def put_run(
    request: Request,
    service: Running,
    asking: Asking,
    run: RunName,
    resume: Annotated[
        Resume | None,
        Query(description="new: if the name is taken, use the next free one (`try1-2`). continue (default): go on "
              "with what is there. must: 404 if nothing is. Wins over the body's."),
    ] = None,
    producer: Annotated[
        str | None, Query(description="Who writes from now on: takes over the current attempts.")
    ] = None,
) -> Response:  # fmt: skip
    """Make sure that a run exists; repeating it changes nothing. The answer's `run` is the name to report to.

    Config, provenance and counters are merged into what is there. A run that was deleted begins anew.
    """
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX, optional=True) as body:
        message = decode_message(body.data, body.content_type, Open) if body.data else Open()
        check_open(message, "$")
        if resume is not None:
            message.resume = resume
        batch = Batch(producer=checked_producer(producer, "producer"), open=message, nbytes=len(body.data))
        done = await service.ingest.submit(Append(run, batch, explicit=True, by=asking))
    view = await run_in_threadpool(_view_of, service, done.state)
    view.warnings = done.receipt.warnings
    if not done.created:
        return answer(request, view)
    return answer(request, view, status=201, headers={"Location": f"/api/v1/runs/{quote(done.state.name, safe='/')}"})


_LISTING: Final = documented(
    "list_runs",
    "Search runs, or make a table of them",
    needs="read",
    answers={200: Given(RunPage, examples.RUN_PAGE, "A page of runs; a RunTablePage if columns are named.")},
    problems=("invalid_query", "too_many_runs", "still_reading", "history_changing", *STORE),
)
_LISTING["responses"][200]["content"][JSON]["schema"] = {"anyOf": [reference(RunPage), reference(RunTablePage)]}


@router.get("/runs", **_LISTING)
async def list_runs(
    request: Request,
    service: Running,
    asking: Asking,
    project: Annotated[str | None, Query(description="What the name begins with, up to a slash.")] = None,
    run: Annotated[
        list[str] | None,
        Query(
            description="Only the run with this name; may be repeated. A page that shows a table asks so for the runs "
            "of which GET /live told.",
            max_length=NAMES_MAX,
            openapi_examples={"run": {"value": [examples.RUN]}},
        ),
    ] = None,
    status: Annotated[
        ShownStatus | None, Query(description="Only runs of this status; lost: running, but no longer heard of.")
    ] = None,
    q: Annotated[str | None, Query(description="Text in name, display name or notes, in any case.")] = None,
    group: Annotated[str | None, Query(description="Only runs of this group.")] = None,
    archived: Annotated[bool | None, Query(description="Only archived runs, or only others.")] = None,
    where: Annotated[
        str | None, Query(alias="filter", description=f"Only runs of which this holds: `{FILTER_EXAMPLE}`.")
    ] = None,
    columns: Annotated[
        str | None, Query(description=f"Answer with a table of these, apart by commas: `{COLUMNS_EXAMPLE}`.")
    ] = None,
    sort: Annotated[
        str | None, Query(description=f"Columns to order by, - before those that descend: `{SORT_EXAMPLE}`.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="At most so many.")] = 100,
    cursor: Annotated[str | None, Query(description="Where to go on: `cursor` of the page before.")] = None,
) -> Response:
    """Runs in the order of their names, or in the one asked for, page by page.

    Columns, filter and sort share one small language (docs/filters.md). A column is a word (`name`, `status`, `group`,
    `created_at`, …), `config.<key>`, `summary.<key>`, `counters.<name>`, a figure of a tag's visible points
    (`last.<tag>`, `min.<tag>`, `max_step.<tag>`, …), or `at_min(<tag>, <tag>)`: the value of the first tag where the
    second is least. Besides the parameters listed, `config.<key>=<value>` (any number of times; dots reach into
    nested objects) keeps the runs whose config has that value, written as in JSON or as plain text.
    """
    check_known(request, _PARAMETERS, prefix="config.")
    config = [(key, text) for key, text in request.query_params.multi_items() if key.startswith("config.")]
    single = RunFilter(
        status=status, text=q, group=group, archived=archived,
        config=tuple(config_filter(key.removeprefix("config."), text) for key, text in config),
    )  # fmt: skip
    asked = Asked(of_project(asking, project), tuple(run or ()), single, where, columns, sort, limit, cursor)

    def work() -> Response:
        return answer(request, find_runs(service, asked, encoder(request)))

    return await anyio.to_thread.run_sync(work, limiter=service.chart_reads)


@router.get(
    "/runs/{run:path}",
    **documented(
        "get_run",
        "Show a run",
        needs="read",
        answers={200: Given(RunView, examples.RUN_VIEW, "The run with counters, attempts, tags and health.")},
        problems=("invalid_run_name", "run_not_found", "run_deleted", *STORE),
    ),
)
def get_run(request: Request, service: Running, run: RunName) -> Response:
    """One run: its counters with their attempts (who wrote what, and what of it is visible), tags, health."""
    with service.store.snapshot() as view:
        state = load_run(view, run)
    return answer(request, _view_of(service, state))


@router.patch(
    "/runs/{run:path}",
    **documented(
        "patch_run",
        "Change what is said of a run",
        needs="write",
        sent=Sent(RunPatch, examples.PATCH),
        answers={200: Given(RunView, examples.RUN_VIEW, "Changed.")},
        problems=("invalid_run_name", "run_not_found", "run_deleted", *BODY, *WRITE),
    ),
)
async def patch_run(request: Request, service: Running, asking: Asking, run: RunName) -> Response:
    """Status, names, notes, tags, group, archived; config and summary are merged, null removes a key."""
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX) as body:
        changes = _checked_changes(decode_message(body.data, body.content_type, RunPatch))
        done = await service.ingest.submit(Patch(run, changes, by=asking))
    return answer(request, await run_in_threadpool(_view_of, service, done.state))


@router.delete(
    "/runs/{run:path}",
    **documented(
        "delete_run",
        "Delete a run",
        needs="admin",
        answers={204: Given(None, None, "Deleted, with all its points and event files.")},
        problems=("invalid_run_name", "run_not_found", "run_deleted", *WRITE),
    ),
)
async def delete_run(service: Running, asking: Asking, run: RunName) -> Response:
    """Delete a run for good. Its name answers 410 until a PUT creates it again, so that a job still reporting
    doesn't bring it back by accident."""
    await service.ingest.submit(Delete(run, by=asking))
    return Response(status_code=204)


def _view_of(service: Service, state: RunState) -> RunView:
    with service.store.snapshot() as view:
        refused = view.refused(state.id, limit=REFUSED_KEPT_PER_RUN_MAX)
        alerts = view.alert_count(state.id)
        incidents = view.incidents(run_id=state.id, limit=INCIDENTS_SHOWN_MAX)
    return run_view(state, refused, alerts, incidents, service.liveness(state), service.clock())


def _checked_changes(message: RunPatch) -> dict[str, Any]:
    changes = {
        name: value for name in message.__struct_fields__ if (value := getattr(message, name)) is not msgspec.UNSET
    }
    if not changes:
        raise InvalidBatchError("$", f"changes nothing; send some of {', '.join(message.__struct_fields__)}")
    for name in ("config", "summary"):
        check_document(changes.get(name, {}), f"$.{name}")
    for name in ("display_name", "group", "notes"):
        check_plain_text(changes.get(name) or "", f"$.{name}")
    for tag in changes.get("tags", ()):
        try:
            check_tag(tag)
        except InvalidNameError as error:
            raise InvalidBatchError("$.tags", str(error)) from error
    return changes
