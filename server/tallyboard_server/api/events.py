"""Events as TensorBoard's writers make them: POST /events takes them in, GET /blobs gives single points back."""

from functools import partial
from io import BytesIO
from typing import Annotated, Final

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import (
    Batch,
    EventsMessage,
    InvalidBatchError,
    Receipt,
    checksum,
    decode_events,
    decode_message,
    protos,
)
from tallyboard.wire.batch import check_stream
from tallyboard.wire.limits import KIB, ROWS_PER_BATCH_MAX, STEP_MAX
from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer
from tallyboard_server.api.body import Body
from tallyboard_server.api.documented import BODY, STORE, WRITE, Given, Sent, documented
from tallyboard_server.api.fairness import weight
from tallyboard_server.api.names import RunName
from tallyboard_server.api.problems import InvalidQueryError, PointNotFoundError
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.reading import load_run
from tallyboard_server.api.reports import CONTRACT
from tallyboard_server.api.service import Asking, Running
from tallyboard_server.eventfiles.tfrecord import Damage, read_records
from tallyboard_server.ingest.commands import Append
from tallyboard_server.series.blobs import read_blob_points
from tallyboard_server.summaries import first_fault

TFRECORDS: Final = "application/x-tfrecord"
"""Framed records, as event files are made of; the whole of a file or whole records of it."""

_INLINE_BYTES_MAX: Final = 16 * KIB
"""Bodies up to this size are decoded at once (some 300 events in 2 ms); larger ones in a thread."""
_QUERY: Final = ("counter", "producer", "seq", "partial")
_TFRECORDS_SAID: Final = (
    "Framed records, each an Event, as event files hold them; `counter`, `producer`, `seq` and `partial` stand in the "
    "query."
)

router = APIRouter(tags=["events"])


@router.post(
    "/events/{run:path}",
    **documented(
        "post_events",
        "Report TensorBoard events",
        needs="write",
        sent=Sent(EventsMessage, examples.EVENTS, others={TFRECORDS: _TFRECORDS_SAID}),
        answers={200: Given(Receipt, examples.EVENTS_RECEIPT, "Stored: on disk, after fsync.")},
        problems=("invalid_run_name", "invalid_query", "run_not_found", *CONTRACT, *BODY, *WRITE),
    ),
)
async def post_events(
    request: Request,
    service: Running,
    asking: Asking,
    run: RunName,
    counter: Annotated[
        str | None, Query(description="Records only: on which all tags count. Absent: each tag on one of its own.")
    ] = None,
    producer: Annotated[str | None, Query(description="Records only: whose numbered stream this belongs to.")] = None,
    seq: Annotated[int | None, Query(description="Records only: the batch's number in that stream.")] = None,
    partial_: Annotated[
        bool, Query(alias="partial", description="Records only: store the good ones if some are refused.")
    ] = False,
) -> Response:
    """Store what TensorBoard's writers write: scalars as scalars, images, text, histograms, … as they are.

    Without a counter each tag counts on one of its own, `tag:<tag>`. The rules are those of POST /scalars; in refusals
    `row` is the index of the event. File versions and session logs are passed over, a graph is kept as tag
    `__run_graph__`, run metadata is left out with a warning. Anything that TensorBoard could not read is refused (422).
    """
    check_known(request, _QUERY)
    turn = service.fairness.turn(run, weight(request, service.fairness.bytes_max))
    async with turn, service.bodies.body(request, others=(TFRECORDS,)) as body:
        message = None
        if body.content_type == TFRECORDS:
            message = EventsMessage(events=[], counter=counter, producer=producer, seq=seq, partial=partial_)
        elif used := [name for name in _QUERY if name in request.query_params]:
            raise InvalidQueryError(f"{used[0]!r} belongs into the body, unless that is {TFRECORDS}", field=used[0])
        decode = partial(_batch, body, message, now=service.clock())
        if len(body.data) <= _INLINE_BYTES_MAX:
            batch = decode()
        else:
            batch = await anyio.to_thread.run_sync(decode, limiter=service.large_decodes)
        done = await service.ingest.submit(Append(run, batch, by=asking))
    return answer(request, done.receipt)


@router.get(
    "/blobs/{run:path}",
    **documented(
        "get_blob",
        "Read an image, a text, a histogram, …",
        needs="read",
        answers={
            200: Given(
                bytes, None, "A serialised Summary.Value, with tag and metadata.",
                {"Tallyboard-Step": "The point's step.", "Tallyboard-Kind": "What it is: TensorBoard's plugin name."},
                media_type="application/octet-stream",
            )
        },
        problems=("invalid_run_name", "invalid_query", "run_not_found", "run_deleted", "point_not_found", *STORE),
    ),
)  # fmt: skip
def get_blob(
    request: Request,
    service: Running,
    run: RunName,
    tag: Annotated[str, Query(description="The tag.", openapi_examples={"tag": {"value": examples.IMAGE_TAG}})],
    step: Annotated[int | None, Query(ge=0, le=STEP_MAX, description="Its step. Absent: the last one.")] = None,
) -> Response:
    """One visible point of a tag that is no scalar, as TensorBoard's protocol buffers have it."""
    check_known(request, ("tag", "step"))
    first, last = (0, STEP_MAX) if step is None else (step, step)
    with service.store.snapshot() as view:
        state = load_run(view, run)
        points = read_blob_points(view, state, tag, at_most=1, first=first, last=last)
        found = {} if points is None else view.blobs(state.id, points.keys.tolist())
    if points is None or not found:
        at = "" if step is None else f" at step {step}"
        raise PointNotFoundError(
            f"{run!r} has no image, text, histogram, … under tag {tag!r}{at}; GET /api/v1/runs lists tags by kind",
            field="tag",
        )
    (blob,) = found.values()
    head = protos.sized(1, tag.encode()) + (protos.sized(9, points.metadata) if points.metadata else b"")
    headers = {"Tallyboard-Step": str(int(points.steps[0])), "Tallyboard-Kind": _header(points.kind)}
    return Response(head + blob.data, headers=headers, media_type="application/octet-stream")


def _batch(body: Body, message: EventsMessage | None, *, now: float) -> Batch:
    """The batch that a body says; message: what its query says, if it is nothing but records."""
    places: list[int] = []
    given = message or decode_message(body.data, body.content_type, EventsMessage)
    check_stream(given.producer, given.seq)
    events = given.events if message is None else _records(body.data, places)
    if not events:
        raise InvalidBatchError("$", "it holds no event")

    def where(index: int) -> str:
        return f"$.events[{index}]" if not places else f"record {index} (at byte {places[index]})"

    columns, warnings = decode_events(events, counter=given.counter, now=now, where=where)
    for stretch in columns:
        if (fault := first_fault(stretch)) is not None:
            row, detail = fault
            raise InvalidBatchError(where(stretch.row_of(row)), f"tag {stretch.tags[0]!r}: {detail}")
    return Batch(
        producer=given.producer,
        seq=given.seq,
        partial=given.partial,
        columns=columns,
        checksum=checksum(body.data),
        nbytes=len(body.data),
        warnings=warnings,
    )


def _records(data: bytes, places: list[int]) -> list[bytes]:
    """The records of a body, and into `places` the byte at which each begins. Raises InvalidBatchError."""
    found: list[bytes] = []
    for record in read_records(BytesIO(data)):
        if isinstance(record, Damage):
            detail = "the body ends within a record; send whole ones" if record.torn else record.reason
            raise InvalidBatchError(f"record {len(found)} (at byte {record.offset})", detail)
        if len(found) >= ROWS_PER_BATCH_MAX:
            raise InvalidBatchError("$", f"more than {ROWS_PER_BATCH_MAX} records; send them in several requests")
        found.append(record.data)
        places.append(record.offset)
    return found


def _header(text: str) -> str:
    """A text that may stand in a header, which takes no more than Latin-1."""
    return text.encode("ascii", "backslashreplace").decode()
