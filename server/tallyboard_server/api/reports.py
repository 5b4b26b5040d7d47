"""Reporting: POST /scalars, rewinds and alerts by hand, heartbeats, and what was refused."""

import time
from functools import partial
from typing import Annotated, Final

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import (
    Alert,
    Batch,
    InvalidBatchError,
    InvalidNameError,
    Receipt,
    Rewind,
    check_rewind,
    checked_alert,
    decode_batch,
    decode_message,
)
from tallyboard.wire.limits import ALERTS_KEPT_PER_RUN_MAX, KIB, REFUSED_KEPT_PER_RUN_MAX
from tallyboard.wire.messages import BatchMessage
from tallyboard.wire.names import check_producer
from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer
from tallyboard_server.api.body import DOCUMENT_BYTES_MAX, Body
from tallyboard_server.api.documented import BODY, STORE, WRITE, Given, Sent, documented
from tallyboard_server.api.fairness import weight
from tallyboard_server.api.messages import AlertsPage, HeartbeatAnswer, HeartbeatBody, RefusedPage, RewindBody
from tallyboard_server.api.names import RunName, checked_run
from tallyboard_server.api.reading import check_exists, load_run
from tallyboard_server.api.service import Asking, Running, Service, principal_of, service_of
from tallyboard_server.api.views import alerts_page, refused_page
from tallyboard_server.ingest.commands import Append
from tallyboard_server.principal import Scope
from tallyboard_server.summaries import first_fault

_INLINE_BYTES_MAX: Final = 256 * KIB
"""Bodies up to this size are decoded at once (JSON: 2 ms); larger ones in a thread."""

_MSGPACK_BATCH: Final = (
    "A batch: the fields of BatchMessage, with `blocks` in the place of `reports`. A block is {counter, tags [k], "
    "steps: bin int64[n], wall_times?: bin float64[n], values: bin float64[n*k] row by row, at?: {counter: bin "
    "int64[n]}}, all little-endian. `events` may stand beside them: points that are no scalars, in blocks {counter, "
    "tag, metadata?: bin SummaryMetadata, steps, wall_times?, values: [bin Summary.Value without its tag], at?}."
)
CONTRACT: Final = (
    "reports_refused", "seq_reused", "seq_gap", "run_limit", "project_full", "run_exists", "run_deleted",
    "blob_collision",
)  # fmt: skip
"""Problems of a route that takes reports."""

router = APIRouter(tags=["reports"])


async def report(request: Request) -> Response:
    """Store scalars. The run is created by its first report.

    One report, a list of them, or a numbered batch of columns. By default a request is all or nothing: if a report
    breaks the rules of its counter, none is stored (409, with each refused report and what to do about it). With
    `partial` the good ones are stored and the receipt lists the others. Bodies may be gzip or zstd.
    """
    begun = time.perf_counter()
    service = service_of(request)
    run = checked_run(request.path_params["run"])
    fairness = service.fairness
    async with fairness.turn(run, weight(request, fairness.bytes_max)), service.bodies.body(request) as body:
        batch = await _decoded(service, body)
        done = await service.ingest.submit(Append(run, batch, by=principal_of(request)))
    service.traffic.acknowledged(time.perf_counter() - begun)
    return answer(request, done.receipt)


NEEDED: Final[Scope] = "write"
"""The scope that reporting needs."""
REPORT_DOCUMENTED: Final = documented(
    "report",
    "Report scalars",
    needs=NEEDED,
    sent=Sent(BatchMessage, examples.REPORTS, msgpack=_MSGPACK_BATCH),
    answers={200: Given(Receipt, examples.RECEIPT, "Stored: on disk, after fsync.")},
    problems=("invalid_run_name", "run_not_found", *CONTRACT, *BODY, *WRITE),
)


@router.post(
    "/rewind/{run:path}",
    **documented(
        "rewind",
        "Go back to a step",
        needs="write",
        sent=Sent(RewindBody, examples.REWIND),
        answers={200: Given(Receipt, examples.REWOUND, "Rewound; the receipt lists the counters that were not.")},
        problems=("invalid_run_name", "run_not_found", "run_deleted", "run_limit", *BODY, *WRITE),
    ),
)
async def rewind(request: Request, service: Running, asking: Asking, run: RunName) -> Response:
    """Begin a new attempt of each counter named, at its next step (0: from scratch).

    What lies at or beyond it leaves charts and event files and is kept as history. The same `id` again changes
    nothing more. The counter belongs to `producer` from there on.
    """
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX) as body:
        message = decode_message(body.data, body.content_type, RewindBody)
        part = Rewind(next_steps=message.next_steps, reason=message.reason, id=message.id)
        check_rewind(part, "$")
        batch = Batch(producer=checked_producer(message.producer), rewind=part, nbytes=len(body.data))
        done = await service.ingest.submit(Append(run, batch, create=False, by=asking))
    return answer(request, done.receipt)


@router.post(
    "/heartbeat/{run:path}",
    **documented(
        "heartbeat",
        "Say that a run is alive",
        needs="write",
        sent=Sent(HeartbeatBody, examples.HEARTBEAT, required=False),
        answers={200: Given(HeartbeatAnswer, examples.HEARD, "Heard.")},
        problems=("invalid_run_name", "run_not_found", "run_deleted", *BODY, *STORE),
    ),
)
async def heartbeat(request: Request, service: Running, run: RunName) -> Response:
    """Tell that a run still works though it has nothing to report. Reports say so by themselves."""
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX, optional=True) as body:
        if body.data:
            message = decode_message(body.data, body.content_type, HeartbeatBody)
            checked_producer(message.producer)
        await run_in_threadpool(check_exists, service.store, run)
    now = service.clock()
    service.ingest.heartbeats.beat(run, now)
    return answer(request, HeartbeatAnswer(run=run, last_seen=now))


@router.get(
    "/refused/{run:path}",
    **documented(
        "refused",
        "What was refused of a run, and why",
        needs="read",
        answers={200: Given(RefusedPage, examples.REFUSED, "The newest refused reports, newest first.")},
        problems=("invalid_run_name", "invalid_query", "run_not_found", "run_deleted", *STORE),
    ),
)
def refused(
    request: Request,
    service: Running,
    run: RunName,
    limit: Annotated[int, Query(ge=1, le=REFUSED_KEPT_PER_RUN_MAX, description="At most so many.")] = 100,
) -> Response:
    """Reports that broke the rules of their counter, each with what to do about it."""
    with service.store.snapshot() as view:
        state = load_run(view, run)
        kept = view.refused(state.id, limit=limit)
    return answer(request, refused_page(run, kept))


@router.post(
    "/alerts/{run:path}",
    **documented(
        "alert",
        "Say something that people should see",
        needs="write",
        sent=Sent(Alert, examples.ALERT),
        answers={200: Given(Receipt, examples.ALERTED, "Kept: on disk, after fsync.")},
        problems=("invalid_run_name", "run_not_found", "run_deleted", *BODY, *WRITE),
    ),
)
async def alert(request: Request, service: Running, asking: Asking, run: RunName) -> Response:
    """Keep an alert of a run that exists: shorthand for a batch with nothing but it.

    Sent twice it is kept twice; a numbered batch (POST /scalars with `alerts`) is kept once.
    """
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX) as body:
        message = decode_message(body.data, body.content_type, Alert)
        batch = Batch(alerts=(checked_alert(message, "$", service.clock()),), nbytes=len(body.data))
        done = await service.ingest.submit(Append(run, batch, create=False, by=asking))
    return answer(request, done.receipt)


@router.get(
    "/alerts/{run:path}",
    **documented(
        "alerts",
        "What jobs had to say of a run",
        needs="read",
        answers={200: Given(AlertsPage, examples.ALERTS, "The newest alerts, newest first.")},
        problems=("invalid_run_name", "invalid_query", "run_not_found", "run_deleted", *STORE),
    ),
)
def alerts(
    request: Request,
    service: Running,
    run: RunName,
    limit: Annotated[int, Query(ge=1, le=ALERTS_KEPT_PER_RUN_MAX, description="At most so many.")] = 100,
) -> Response:
    """Alerts as they came, each with its level and where the run's counters stood. The newest 1,000 are kept."""
    with service.store.snapshot() as view:
        state = load_run(view, run)
        kept = view.alerts(state.id, limit=limit)
    return answer(request, alerts_page(run, kept))


def checked_producer(producer: str | None, field: str = "$.producer") -> str | None:
    """The producer's id if it can be one; raises InvalidBatchError."""
    if producer is None:
        return None
    try:
        return check_producer(producer)
    except InvalidNameError as error:
        raise InvalidBatchError(field, str(error)) from error


async def _decoded(service: Service, body: Body) -> Batch:
    decode = partial(_checked_batch, body, now=service.clock())
    if len(body.data) <= _INLINE_BYTES_MAX:
        return decode()
    return await anyio.to_thread.run_sync(decode, limiter=service.large_decodes)


def _checked_batch(body: Body, *, now: float) -> Batch:
    batch = decode_batch(body.data, body.content_type, now=now)
    events = [columns for columns in batch.columns if columns.blobs]
    for index, columns in enumerate(events):
        if (fault := first_fault(columns)) is not None:
            row, detail = fault
            raise InvalidBatchError(f"$.events[{index}].values[{row}]", detail)
    return batch
