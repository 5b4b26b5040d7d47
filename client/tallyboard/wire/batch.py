"""From the bytes of a request to a checked batch of columns, and back.

Everything that can be wrong with a batch by itself is found here (types, shapes, names, limits, non-finite times);
what is wrong only against the run's history is the step contract's business.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from tallyboard.wire import limits, names
from tallyboard.wire.columns import Columns, Float64, Int64
from tallyboard.wire.messages import BatchMessage, Block, Open, Report, Rewind, Status

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

_T = TypeVar("_T")


class InvalidBatchError(ValueError):
    """A request that can't be a batch. `field` is the path of the culprit (`$.blocks[0].steps`)."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


@dataclass(slots=True, frozen=True)
class Batch:
    """A checked request. `columns` are in request order; `checksum` tells one body from another."""

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


def decode_batch(body: bytes, content_type: str, *, now: float) -> Batch:
    """Decode and check a body. `now` (seconds since the epoch) stands in for absent wall times.

    Raises InvalidBatchError for whatever is wrong with it, naming the field.
    """
    message = decode_message(body, content_type, BatchMessage)
    if content_type == JSON and message.blocks:
        raise InvalidBatchError("$.blocks", f"blocks are binary; send them as {MSGPACK}, or use reports")
    _check_stream(message)
    reports = _reports(message)
    if message.blocks and reports:
        raise InvalidBatchError("$.reports", "a batch holds blocks or reports, not both")
    if message.blocks:
        columns = tuple(_from_blocks(message.blocks, now))
    else:
        columns = tuple(_from_reports(reports, now))
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
        summary=message.summary or None,
        status=message.status,
        checksum=checksum(body),
        nbytes=len(body),
    )
    if not (columns or batch.open or batch.rewind or batch.summary or batch.status):
        raise InvalidBatchError("$", 'an empty batch; send for example {"step": 1, "scalars": {"loss": 0.5}}')
    return batch


def decode_message(body: bytes, content_type: str, kind: type[_T]) -> _T:
    """Decode a body into a message of the given kind, with errors that name the field."""
    decode: Callable[..., _T] = msgspec.msgpack.decode if content_type == MSGPACK else msgspec.json.decode
    try:
        return decode(body, type=kind)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at ")
        raise InvalidBatchError(path.strip("`") or "$", detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise InvalidBatchError("$", f"not valid {content_type}: {error}") from error


def encode_batch(batch: Batch) -> bytes:
    """The MessagePack body for a batch; decode_batch gives the same batch back."""
    blocks = [
        Block(
            counter=c.counter,
            tags=c.tags,
            steps=_view(c.steps, "<i8"),
            wall_times=_view(c.wall_times, "<f8"),
            values=_view(c.values, "<f8"),
            at={name: _view(column, "<i8") for name, column in c.at.items()},
        )
        for c in batch.columns
    ]
    return msgspec.msgpack.encode(
        BatchMessage(
            producer=batch.producer,
            seq=batch.seq,
            partial=batch.partial,
            open=batch.open,
            rewind=batch.rewind,
            blocks=blocks,
            summary=batch.summary or {},
            status=batch.status,
        )
    )


def checksum(body: bytes) -> int:
    """63 bits that tell one body from another: its CRC-32 and Adler-32 (accidents, not attacks, are the concern)."""
    return (zlib.crc32(body) << 31) | (zlib.adler32(body) & 0x7FFFFFFF)


def check_open(message: Open, path: str) -> None:
    """Raise InvalidBatchError if a name or document in an Open can't be used."""
    for name, spec in message.counters.items():
        _named(f"{path}.counters", names.check_counter, name)
        if spec.total is not None and not 0 <= spec.total <= limits.STEP_MAX:
            raise InvalidBatchError(f"{path}.counters.{name}.total", f"{spec.total} is not a step (0 to 2^63-1)")
    if message.uid is not None:
        _named(f"{path}.uid", names.check_producer, message.uid)
    check_document(message.config, f"{path}.config")
    check_document(message.provenance, f"{path}.provenance")
    check_text(message.notes or "", f"{path}.notes")
    check_text(message.group or "", f"{path}.group")
    for tag in message.tags:
        _named(f"{path}.tags", names.check_tag, tag)


def check_rewind(message: Rewind, path: str) -> None:
    """Raise InvalidBatchError if a rewind names no counter, or a next step that is none."""
    if not message.next_steps:
        raise InvalidBatchError(f"{path}.next_steps", 'names no counter; send for example {"global_step": 1000}')
    for name, step in message.next_steps.items():
        _named(f"{path}.next_steps", names.check_counter, name)
        if not 0 <= step <= limits.STEP_MAX:
            raise InvalidBatchError(f"{path}.next_steps.{name}", f"{step} is not a step (0 to 2^63-1)")
    check_text(message.reason, f"{path}.reason")
    if message.id is not None:
        _named(f"{path}.id", names.check_producer, message.id)


def check_document(document: dict[str, Any], path: str) -> None:
    """Raise InvalidBatchError if a JSON document (config, summary, provenance) is too large or not text as UTF-8."""
    try:
        size = len(msgspec.json.encode(document))
    except (ValueError, UnicodeError, TypeError, RecursionError) as error:
        raise InvalidBatchError(path, f"not a JSON document: {error}") from error
    if size > limits.TEXT_BYTES_MAX:
        raise InvalidBatchError(path, f"{size} bytes of JSON; at most {limits.TEXT_BYTES_MAX}")


def check_text(text: str, path: str) -> None:
    """Raise InvalidBatchError if free text is too long or not valid UTF-8."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidBatchError(path, "not valid UTF-8 (a lone surrogate)") from error
    if size > limits.TEXT_BYTES_MAX:
        raise InvalidBatchError(path, f"{size} bytes; at most {limits.TEXT_BYTES_MAX}")


def _check_stream(message: BatchMessage) -> None:
    if (message.producer is None) != (message.seq is None):
        raise InvalidBatchError("$.seq", "producer and seq go together: a numbered batch needs both")
    if message.producer is not None:
        _named("$.producer", names.check_producer, message.producer)
    if message.seq is not None and not 1 <= message.seq <= limits.STEP_MAX:
        raise InvalidBatchError("$.seq", f"{message.seq} is no sequence number; they count 1, 2, 3, …")


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
            counter=message.counter or names.DEFAULT_COUNTER,
            wall_time=message.wall_time,
            at=message.at,
        )
    ]


def _from_blocks(blocks: list[Block], now: float) -> Iterator[Columns]:
    if len(blocks) > limits.BLOCKS_PER_BATCH_MAX:
        raise InvalidBatchError("$.blocks", f"{len(blocks)} blocks; at most {limits.BLOCKS_PER_BATCH_MAX}")
    rows = 0
    for index, block in enumerate(blocks):
        path = f"$.blocks[{index}]"
        _named(f"{path}.counter", names.check_counter, block.counter)
        _named(f"{path}.tags", names.check_tags, block.tags)
        steps = _int_column(block.steps, f"{path}.steps")
        n, k = len(steps), len(block.tags)
        rows += n
        if n == 0 or rows > limits.ROWS_PER_BATCH_MAX:
            raise InvalidBatchError(
                f"{path}.steps", f"{rows} reports so far; 1 to {limits.ROWS_PER_BATCH_MAX} a batch"
            )
        values = _float_column(block.values, f"{path}.values")
        if len(values) != n * k:
            raise InvalidBatchError(
                f"{path}.values", f"{len(values)} values for {n} steps × {k} tags; it takes {n * k}"
            )
        if block.wall_times is None:
            wall_times = np.full(n, now)
        else:
            wall_times = _float_column(block.wall_times, f"{path}.wall_times")
        at = {}
        for name, column in block.at.items():
            _named(f"{path}.at", names.check_counter, name)
            at[name] = _int_column(column, f"{path}.at.{name}")
        columns = Columns(block.counter, block.tags, steps, wall_times, values.reshape(n, k), at, block=index)
        _check_columns(columns, path)
        yield columns


def _check_columns(columns: Columns, path: str) -> None:
    n = len(columns)
    if len(columns.wall_times) != n:
        raise InvalidBatchError(f"{path}.wall_times", f"{len(columns.wall_times)} wall times for {n} steps")
    if not np.isfinite(columns.wall_times).all():
        raise InvalidBatchError(f"{path}.wall_times", "must be finite seconds since the epoch")
    if columns.steps.min() < 0:
        raise InvalidBatchError(f"{path}.steps", f"{columns.steps.min()} is negative; steps count from 0")
    for name, column in columns.at.items():
        if len(column) != n:
            raise InvalidBatchError(f"{path}.at.{name}", f"{len(column)} values for {n} steps")
        if column.min() < 0:
            raise InvalidBatchError(f"{path}.at.{name}", f"{column.min()} is negative; steps count from 0")


def _from_reports(reports: list[Report], now: float) -> Iterator[Columns]:
    """Columns of each stretch of reports with the same counter, tags and `at`; all of them are block 0."""
    if len(reports) > limits.ROWS_PER_BATCH_MAX:
        raise InvalidBatchError(
            "$.reports", f"{len(reports)} reports; at most {limits.ROWS_PER_BATCH_MAX} a batch"
        )
    row = 0
    for (counter, tags, at_names), stretch in groupby(reports, _shape):
        rows = list(stretch)
        path = f"$.reports[{row}]"
        _named(f"{path}.counter", names.check_counter, counter)
        _named(f"{path}.scalars", names.check_tags, tags)
        for name in at_names:
            _named(f"{path}.at", names.check_counter, name)
        steps = [_step(report.step, f"$.reports[{row + i}].step") for i, report in enumerate(rows)]
        walls = [now if report.wall_time is None else report.wall_time for report in rows]
        if not all(map(math.isfinite, walls)):
            raise InvalidBatchError(f"{path}.wall_time", "must be finite seconds since the epoch")
        yield Columns(
            counter,
            tags,
            np.array(steps, dtype=np.int64),
            np.array(walls, dtype=np.float64),
            _values(rows, row, len(tags)),
            {name: _at_column(rows, row, name) for name in at_names},
            row=row,
        )
        row += len(rows)


def _shape(report: Report) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return report.counter, tuple(report.scalars), tuple(report.at)


def _values(rows: Sequence[Report], first_row: int, k: int) -> Float64:
    try:
        return np.array([list(report.scalars.values()) for report in rows], dtype=np.float64).reshape(-1, k)
    except (ValueError, OverflowError):
        for i, report in enumerate(rows):
            for tag, value in report.scalars.items():
                try:
                    float(value)
                except ValueError as error:
                    raise InvalidBatchError(
                        f"$.reports[{first_row + i}].scalars.{tag}",
                        f"{value!r} is not a number; non-finite ones are 'NaN', 'Infinity', '-Infinity'",
                    ) from error
        raise


def _at_column(rows: Sequence[Report], first_row: int, name: str) -> Int64:
    return np.array(
        [_step(report.at[name], f"$.reports[{first_row + i}].at.{name}") for i, report in enumerate(rows)],
        dtype=np.int64,
    )


def _step(step: float, path: str) -> int:
    if isinstance(step, float):
        if not step.is_integer():
            raise InvalidBatchError(path, f"{step} is not a whole number; steps count 0, 1, 2, …")
        step = int(step)
    if not 0 <= step <= limits.STEP_MAX:
        raise InvalidBatchError(path, f"{step} is not a step (0 to 2^63-1)")
    return step


def _int_column(data: memoryview, path: str) -> Int64:
    return np.frombuffer(_whole(data, path), dtype="<i8")


def _float_column(data: memoryview, path: str) -> Float64:
    return np.frombuffer(_whole(data, path), dtype="<f8")


def _whole(data: memoryview, path: str) -> memoryview:
    if len(data) % 8:
        raise InvalidBatchError(path, f"{len(data)} bytes are no whole number of 8-byte little-endian values")
    return data


def _view(column: Int64 | Float64, dtype: str) -> memoryview:
    return memoryview(np.ascontiguousarray(column, dtype=dtype).reshape(-1).view(np.uint8))


def _named(path: str, check: Callable[[Any], object], name: object) -> None:
    try:
        check(name)
    except names.InvalidNameError as error:
        raise InvalidBatchError(path, str(error)) from error
