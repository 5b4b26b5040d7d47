"""From the bytes of a request to a checked batch of columns, and back.

Everything that can be wrong with a batch by itself is found here (types, shapes, names, limits, non-finite
times); what is wrong only against the run's history is the step contract's business.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from tallyboard.wire import documents, faults, limits, names
from tallyboard.wire.alerts import checked_alerts
from tallyboard.wire.checks import (
    NO_WALL_TIME,
    InvalidBatchError,
    UndecodableBodyError,
    at_columns,
    check_columns,
    check_plain_text,
    check_text,
    float_column,
    int_column,
    named,
    view,
    whole_step,
)
from tallyboard.wire.columns import Columns, Int64
from tallyboard.wire.eventblocks import from_event_blocks, to_event_block
from tallyboard.wire.messages import Alert, BatchMessage, Block, EventBlock, Open, Report, Rewind, Status

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

_T = TypeVar("_T")
_CHECKSUM_SLICE_BYTES: Final = 4096
"""zlib lets go of the interpreter's lock above 5 KiB; beside a busy thread, getting it back costs ten checksums."""


@dataclass(slots=True, frozen=True)
class Batch:
    """A checked request. `columns` are in request order; `checksum` tells one body from another.

    warnings: what of the request was left out, for the receipt.
    """

    producer: str | None = None
    seq: int | None = None
    partial: bool = False
    open: Open | None = None
    rewind: Rewind | None = None
    columns: tuple[Columns, ...] = ()
    summary: dict[str, Any] | None = None
    status: Status | None = None
    checksum: int = 0
    nbytes: int = 0
    warnings: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()


def decode_batch(body: bytes, content_type: str, *, now: float) -> Batch:
    """Decode and check a body. `now` (seconds since the epoch) stands in for absent wall times.

    Raises InvalidBatchError for whatever is wrong with it, naming the field.
    """
    message = decode_message(body, content_type, BatchMessage)
    if content_type == JSON and (message.blocks or message.events):
        raise InvalidBatchError("$.blocks", f"blocks are binary; send them as {MSGPACK}, or use reports")
    check_stream(message.producer, message.seq)
    single = message.scalars is not None
    reports = _reports(message)
    if (message.blocks or message.events) and reports:
        raise InvalidBatchError("$.reports", "a batch holds blocks or reports, not both")
    if message.blocks or message.events:
        _check_sizes(message.blocks, message.events)
        columns = (
            *_from_blocks(message.blocks, now),
            *from_event_blocks(message.events, now, first_block=len(message.blocks)),
        )
    else:
        columns = tuple(_from_reports(reports, now, single=single))
    if message.open is not None:
        check_open(message.open, "$.open")
    if message.rewind is not None:
        check_rewind(message.rewind, "$.rewind")
    check_document(message.summary, "$.summary")
    batch = Batch(
        producer=message.producer,
        seq=message.seq,
        partial=message.partial,
        open=message.open,
        rewind=message.rewind,
        columns=columns,
        alerts=checked_alerts(message.alerts, now),
        summary=message.summary or None,
        status=message.status,
        checksum=checksum(body),
        nbytes=len(body),
    )
    if not (columns or batch.open or batch.rewind or batch.alerts or batch.summary or batch.status):
        raise InvalidBatchError("$", 'an empty batch; send for example {"step": 1, "scalars": {"loss": 0.5}}')
    return batch


def decode_message(body: bytes, content_type: str, kind: type[_T]) -> _T:
    """Decode a body into a message of the given kind, with errors that name the field."""
    decode: Callable[..., Any] = msgspec.msgpack.decode if content_type == MSGPACK else msgspec.json.decode
    if not body:
        raise UndecodableBodyError("$", f"the body is empty; send {JSON} or {MSGPACK}")
    try:
        message: _T = decode(body, type=kind)
    except msgspec.ValidationError as error:
        try:
            field, detail = faults.describe(error, faults.untyped(body, json=content_type == JSON))
        except (ValueError, RecursionError) as worse:  # the rest of the body can't be decoded either
            raise UndecodableBodyError("$", f"not valid {content_type}: {worse}") from error
        raise InvalidBatchError(field, detail) from error
    except UnicodeDecodeError as error:
        raise UndecodableBodyError("$", faults.describe_utf8(error)) from error
    except (ValueError, RecursionError) as error:
        hint = faults.json_hint(body) if content_type == JSON else ""
        raise UndecodableBodyError("$", f"not valid {content_type}: {error}{hint}") from error
    return message


def encode_batch(batch: Batch) -> bytes:
    """The MessagePack body for a batch; decode_batch gives the same batch back."""
    blocks = [
        Block(
            counter=c.counter,
            tags=c.tags,
            steps=view(c.steps, "<i8"),
            wall_times=view(c.wall_times, "<f8"),
            values=view(c.values, "<f8"),
            at={name: view(column, "<i8") for name, column in c.at.items()},
        )
        for c in batch.columns
        if not c.blobs
    ]
    return msgspec.msgpack.encode(
        BatchMessage(
            producer=batch.producer,
            seq=batch.seq,
            partial=batch.partial,
            open=batch.open,
            rewind=batch.rewind,
            blocks=blocks,
            events=[to_event_block(c) for c in batch.columns if c.blobs],
            alerts=list(batch.alerts),
            summary=batch.summary or {},
            status=batch.status,
        )
    )


def checksum(body: bytes) -> int:
    """63 bits that tell one body from another: CRC-32 and Adler-32 (against accidents, not attacks)."""
    crc, adler = 0, 1
    view = memoryview(body)
    for start in range(0, len(view), _CHECKSUM_SLICE_BYTES):
        piece = view[start : start + _CHECKSUM_SLICE_BYTES]
        crc, adler = zlib.crc32(piece, crc), zlib.adler32(piece, adler)
    return (crc << 31) | (adler & 0x7FFFFFFF)


def check_open(message: Open, path: str) -> None:
    """Raise InvalidBatchError if a name or document in an Open can't be used."""
    for name, spec in message.counters.items():
        named(f"{path}.counters", names.check_counter, name)
        if spec.total is not None and not 0 <= spec.total <= limits.STEP_MAX:
            raise InvalidBatchError(f"{path}.counters.{name}.total", f"{spec.total} is not a step (0 to 2^63-1)")
    for name in message.take_over or ():
        named(f"{path}.take_over", names.check_any_counter, name)
    if message.uid is not None:
        named(f"{path}.uid", names.check_producer, message.uid)
    check_document(message.config, f"{path}.config")
    check_document(message.provenance, f"{path}.provenance")
    check_plain_text(message.notes or "", f"{path}.notes")
    check_plain_text(message.group or "", f"{path}.group")
    for tag in message.tags:
        named(f"{path}.tags", names.check_tag, tag)


def check_rewind(message: Rewind, path: str) -> None:
    """Raise InvalidBatchError if a rewind names no counter, or a next step that is none."""
    if not message.next_steps:
        raise InvalidBatchError(f"{path}.next_steps", 'names no counter; send for example {"global_step": 1000}')
    for name, step in message.next_steps.items():
        named(f"{path}.next_steps", names.check_any_counter, name)
        if not 0 <= step <= limits.STEP_MAX:
            raise InvalidBatchError(f"{path}.next_steps.{name}", f"{step} is not a step (0 to 2^63-1)")
    check_text(message.reason, f"{path}.reason")
    if message.id is not None:
        named(f"{path}.id", names.check_producer, message.id)


def check_document(document: dict[str, Any], path: str) -> None:
    """Raise InvalidBatchError if a document (config, summary, provenance) is too large or no JSON."""
    if not document:
        return
    try:
        documents.check(document)
    except documents.InvalidDocumentError as error:
        raise InvalidBatchError(path + error.path, str(error)) from error


def check_stream(producer: str | None, seq: int | None) -> None:
    """Raise InvalidBatchError if producer and seq name no place in a numbered stream, nor none."""
    if (producer is None) != (seq is None):
        raise InvalidBatchError("$.seq", "producer and seq go together: a numbered batch needs both")
    if producer is not None:
        named("$.producer", names.check_producer, producer)
    if seq is not None and not 1 <= seq <= limits.STEP_MAX:
        raise InvalidBatchError("$.seq", f"{seq} is no sequence number; they count 1, 2, 3, …")


def _reports(message: BatchMessage) -> list[Report]:
    """The reports of a message in either of its JSON forms."""
    if message.scalars is None:
        if message.step is not None:
            raise InvalidBatchError("$.scalars", 'missing; send {"step": 1, "scalars": {"loss": 0.5}}')
        return message.reports
    if message.reports or message.blocks:
        raise InvalidBatchError("$.scalars", "a body is one report or a list of them, not both")
    if message.step is None:
        raise InvalidBatchError("$.step", "missing: every report says its step (TensorBoard would take 0)")
    return [
        Report(
            step=message.step,
            scalars=message.scalars,
            counter=names.DEFAULT_COUNTER if message.counter is None else message.counter,
            wall_time=message.wall_time,
            at=message.at,
        )
    ]


def _check_sizes(blocks: list[Block], events: list[EventBlock]) -> None:
    count = len(blocks) + len(events)
    if count > limits.BLOCKS_PER_BATCH_MAX:
        raise InvalidBatchError("$.blocks", f"{count} blocks; at most {limits.BLOCKS_PER_BATCH_MAX}")
    nbytes = 0
    for kind, steps in (("blocks", [b.steps for b in blocks]), ("events", [b.steps for b in events])):
        for index, column in enumerate(steps):
            nbytes += len(column)
            if nbytes > 8 * limits.ROWS_PER_BATCH_MAX:
                path, so_far = f"$.{kind}[{index}].steps", nbytes // 8
                raise InvalidBatchError(path, f"{so_far} reports so far; at most {limits.ROWS_PER_BATCH_MAX} a batch")


def _from_blocks(blocks: list[Block], now: float) -> Iterator[Columns]:
    for index, block in enumerate(blocks):
        path = f"$.blocks[{index}]"
        named(f"{path}.tags", names.check_tags, block.tags)
        named(f"{path}.counter", names.check_counter_of, block.counter, block.tags)
        steps = int_column(block.steps, f"{path}.steps")
        n, k = len(steps), len(block.tags)
        if n == 0:
            raise InvalidBatchError(f"{path}.steps", f"0 reports; 1 to {limits.ROWS_PER_BATCH_MAX} a batch")
        values = float_column(block.values, f"{path}.values")
        if len(values) != n * k:
            raise InvalidBatchError(
                f"{path}.values", f"{len(values)} values for {n} steps × {k} tags; it takes {n * k}"
            )
        if block.wall_times is None:
            wall_times = np.full(n, now)
        else:
            wall_times = float_column(block.wall_times, f"{path}.wall_times")
        at = at_columns(block.at, path)
        columns = Columns(block.counter, block.tags, steps, wall_times, values.reshape(n, k), at, block=index)
        check_columns(columns, path)
        yield columns


def _from_reports(reports: list[Report], now: float, *, single: bool) -> Iterator[Columns]:
    """Columns of each stretch of reports with the same counter, tags and `at`; all of them are block 0.

    single: the body was one report, so its fields stand at the top.
    """
    if len(reports) > limits.ROWS_PER_BATCH_MAX:
        raise InvalidBatchError("$.reports", f"{len(reports)} reports; at most {limits.ROWS_PER_BATCH_MAX} a batch")
    row = 0
    for (counter, tags, at_names), stretch in groupby(reports, _shape):
        rows = list(stretch)
        place = _Place(row, single)
        named(f"{place(0)}.scalars", names.check_tags, tags)
        named(f"{place(0)}.counter", names.check_counter_of, counter, tags)
        for name in at_names:
            named(f"{place(0)}.at", names.check_counter, name)
        walls = np.array([now if report.wall_time is None else report.wall_time for report in rows])
        if not (finite := np.isfinite(walls)).all():
            raise InvalidBatchError(f"{place(int(finite.argmin()))}.wall_time", NO_WALL_TIME)
        yield Columns(
            counter,
            tags,
            _steps([report.step for report in rows], place, "step"),
            walls,
            np.array([list(report.scalars.values()) for report in rows], np.float64).reshape(-1, len(tags)),
            {name: _steps([report.at[name] for report in rows], place, f"at.{name}") for name in at_names},
            row=row,
        )
        row += len(rows)


@dataclass(slots=True, frozen=True)
class _Place:
    """Says where the i-th report of a stretch stood in the body."""

    first_row: int
    single: bool

    def __call__(self, i: int) -> str:
        return "$" if self.single else f"$.reports[{self.first_row + i}]"


def _shape(report: Report) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return report.counter, tuple(report.scalars), tuple(report.at)


def _steps(steps: list[int | float], place: _Place, field: str) -> Int64:
    """Steps as int64[n]; an integral float counts as the step it says."""
    column = np.array(steps)
    if column.dtype == np.int64 and column.min() >= 0:
        return column
    return np.array([whole_step(step, f"{place(i)}.{field}") for i, step in enumerate(steps)], dtype=np.int64)
