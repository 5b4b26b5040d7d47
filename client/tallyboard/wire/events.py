"""From TensorBoard's Event protos to checked columns: scalars as numbers, everything else as blobs.

Each tag becomes a block of its own (scalars that always come together share one), and a report's row is the index of
its Event. What TensorBoard's writers put beside summaries is passed over: file versions and session logs silently
(but for a purge, which a rewind has to do), run metadata and the like with a warning. A graph becomes a blob.
"""

import math
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from tallyboard.wire import limits, names, protos, summaries, tensors
from tallyboard.wire.checks import NO_WALL_TIME, InvalidBatchError, named
from tallyboard.wire.columns import Columns
from tallyboard.wire.protos import Field, MalformedError

_FIELDS_MAX: Final = 16
_SIMPLE_VALUE: Final = 2
_OBSOLETE: Final = 3
_LEFT_OUT: Final = {6: "log messages", 8: "run metadata", 9: "meta graphs"}
_GRAPH_METADATA: Final = summaries.plain_metadata(summaries.GRAPHS) + b"\x20\x03"
"""With the data class of blob sequences, which TensorBoard gives graphs itself."""

_SHORT: Final = 128
"""Below this, lengths take one byte."""
_FLOAT64: Final = struct.Struct("<d")
_FLOAT32: Final = struct.Struct("<f")

Where = Callable[[int], str]
"""Names the i-th event of a body."""


class Value(NamedTuple):
    """One point of an Event: `number` if it is a scalar, else `blob`, empty if it has none of the known contents."""

    tag: str
    number: float | None
    blob: bytes | memoryview
    metadata: bytes


class Event(NamedTuple):
    """An Event as far as it matters. wall_time: None if absent. left_out: what of it no rule takes in."""

    wall_time: float | None
    step: int
    values: list[Value]
    left_out: str = ""
    purge_step: int | None = None


@dataclass(slots=True)
class _Series:
    """The points of one tag as they come; numbers or blobs."""

    kind: str
    metadata: bytes
    rows: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    wall_times: list[float] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)


def decode_events(
    events: Iterable[bytes | memoryview],
    *,
    counter: str | None,
    now: float,
    where: Where = "$.events[{}]".format,
) -> tuple[tuple[Columns, ...], tuple[str, ...]]:
    """The reports of serialised Events, and warnings of what was left out.

    counter: on which all tags count; None: each on one of its own. now: for events without a wall time. Raises
    InvalidBatchError, naming the event, for whatever TensorBoard could not read either.
    """
    if counter is not None:
        named("$.counter", names.check_counter, counter)
    gathered = _Gathered(counter)
    for index, data in enumerate(events):
        try:
            gathered.add(index, _simple_event(bytes(data)) or read_event(memoryview(data)), now)
        except (MalformedError, names.InvalidNameError) as error:
            raise InvalidBatchError(where(index), str(error)) from error
    return tuple(gathered.columns()), tuple(gathered.warnings())


def read_event(data: memoryview) -> Event:
    """An Event's parts. Raises MalformedError; contents of blobs are not looked into."""
    wall_time: float | None = None
    step = 0
    content: Field | None = None
    for part in protos.read_fields(data, "the event", fields_max=_FIELDS_MAX):
        if part.number == 1:
            wall_time = protos.float64(part, "wall_time")
        elif part.number == 2:
            step = protos.int64(part, "step")
        elif 3 <= part.number <= 9:
            if content is not None:
                raise MalformedError("the event has two contents")
            content = protos.expect(part, protos.SIZED, "the event's content")
    if wall_time is not None and not math.isfinite(wall_time):
        raise MalformedError(f"wall_time {wall_time}: it {NO_WALL_TIME}")
    if step < 0:
        raise MalformedError(f"step {step} is negative; steps count from 0")
    if content is None:
        return Event(wall_time, step, [])
    match content.number:
        case 4:
            return Event(wall_time, step, [_graph(content.data)])
        case 5:
            return Event(wall_time, step, list(_values(content.data)))
        case 7:
            return Event(wall_time, step, [], purge_step=step if _starts(content.data) and step else None)
    return Event(wall_time, step, [], left_out=_LEFT_OUT.get(content.number, ""))


def _simple_event(data: bytes) -> Event | None:
    """An Event as nearly all are, of one simple value under a short tag, several times as fast; None if it is another.

    09 f64 wall_time · 10 varint step (absent if 0) · 2a len { 0a len { 0a len tag · 15 f32 } }
    """
    size = len(data)
    if not 20 < size < _SHORT or data[0] != 0x09:
        return None
    (wall_time,) = _FLOAT64.unpack_from(data, 1)
    step, at = 0, 9
    if data[9] == 0x10:
        shift = 0
        for at in range(10, size):
            step |= (data[at] & 0x7F) << shift
            if data[at] < 0x80:
                break
            shift += 7
        at += 1
    begin, end = at + 6, size - 5
    if (
        begin >= end
        or data[at:begin] != bytes((0x2A, size - at - 2, 0x0A, size - at - 4, 0x0A, end - begin))
        or data[end] != 0x15
        or not math.isfinite(wall_time)
        or step > limits.STEP_MAX
    ):
        return None
    try:
        tag = data[begin:end].decode()
    except UnicodeDecodeError:
        return None
    (number,) = _FLOAT32.unpack_from(data, end + 1)
    return Event(wall_time, step, [Value(tag, number, b"", b"")])


class _Gathered:
    """Events by tag, in order of first appearance."""

    def __init__(self, counter: str | None) -> None:
        self._counter = counter
        self.left = limits.ROWS_PER_BATCH_MAX
        self._series: dict[tuple[str, str], _Series] = {}
        self._first: dict[str, _Series] = {}
        self._left_out: Counter[str] = Counter()
        self._purge_step: int | None = None

    def add(self, index: int, event: Event, now: float) -> None:
        if event.left_out:
            self._left_out[event.left_out] += 1
        if event.purge_step is not None:
            self._purge_step = event.purge_step
        self.left -= len(event.values)
        if self.left < 0:
            raise MalformedError(f"more than {limits.ROWS_PER_BATCH_MAX} values; send them in several requests")
        for value in event.values:
            self._add_value(index, event, value, now)

    def columns(self) -> Iterator[Columns]:
        together: dict[tuple[int, bytes], list[tuple[str, _Series]]] = {}
        for place, ((tag, kind), series) in enumerate(self._series.items()):
            alone = self._counter is None or kind != summaries.SCALARS
            key = (place, b"") if alone else (-1, np.array(series.rows).tobytes())
            together.setdefault(key, []).append((tag, series))
        block = 0
        for alike in together.values():
            for begin in range(0, len(alike), limits.TAGS_PER_REPORT_MAX):
                yield _columns(alike[begin : begin + limits.TAGS_PER_REPORT_MAX], self._counter, block)
                block += 1

    def warnings(self) -> Iterator[str]:
        for what, count in self._left_out.items():
            yield f"{what} were left out ({count} ×)"
        if self._purge_step is not None:
            yield (
                f"a session start at step {self._purge_step} was passed over; to go back, rewind: "
                f'{{"next_steps": {{"{names.ALL_IMPLICIT}": {self._purge_step}}}}}'
            )

    def _add_value(self, index: int, event: Event, value: Value, now: float) -> None:
        known = self._first.get(value.tag)
        number, blob, metadata = value.number, value.blob, value.metadata
        if number is not None:
            kind = summaries.SCALARS
        else:
            kind, metadata = _kind(blob, metadata, known)
            if not blob:
                if kind != summaries.HPARAMS:
                    self._left_out["values without a known content"] += 1
                    return
                blob = summaries.EMPTY_TENSOR
            if kind == summaries.SCALARS:
                number = _scalar_of_tensor(blob)
        series = self._series.get((value.tag, kind))
        if series is None:
            if len(self._series) >= limits.SERIES_PER_EVENTS_MAX:
                raise MalformedError(f"more than {limits.SERIES_PER_EVENTS_MAX} tags; send them in several requests")
            names.check_tag(value.tag)
            if self._counter is None:
                names.check_counter_of(names.implicit_counter(value.tag), (value.tag,))
            series = self._series[value.tag, kind] = _Series(
                kind, b"" if kind == summaries.SCALARS else bytes(metadata)
            )
            self._first.setdefault(value.tag, series)
        series.rows.append(index)
        series.steps.append(event.step)
        series.wall_times.append(now if event.wall_time is None else event.wall_time)
        if number is not None:
            series.numbers.append(number)
        else:
            series.blobs.append(bytes(blob))


def _kind(blob: bytes | memoryview, metadata: bytes, known: _Series | None) -> tuple[str, bytes]:
    """What a value other than a simple one is, and its metadata: a tensor without any is what its tag was before."""
    told = summaries.read_metadata(metadata)
    field = summaries.blob_field(blob) if blob else summaries.TENSOR_FIELD
    if not metadata and known is not None and field == summaries.TENSOR_FIELD:
        return known.kind, known.metadata
    return (summaries.SCALARS if told.is_scalar else summaries.kind_of(told, field)), metadata


def _columns(alike: list[tuple[str, _Series]], counter: str | None, block: int) -> Columns:
    """Series of the same events as columns: several of scalars, or one."""
    tag, first = alike[0]
    blobs = tuple(summaries.blob_of(data) for data in first.blobs)
    values = summaries.keys_of(blobs) if blobs else np.array([series.numbers for _, series in alike]).T
    return Columns(
        names.implicit_counter(tag) if counter is None else counter,
        tuple(tag for tag, _ in alike),
        np.array(first.steps, np.int64),
        np.array(first.wall_times, np.float64),
        np.ascontiguousarray(values, np.float64),
        block=block,
        rows=np.array(first.rows, np.int64),
        kind=first.kind,
        metadata=first.metadata,
        blobs=blobs,
    )


def _values(summary: memoryview) -> Iterator[Value]:
    for part in protos.read_fields(summary, "the summary", fields_max=limits.ROWS_PER_BATCH_MAX):
        if part.number == 1:
            yield _value(protos.expect(part, protos.SIZED, "the summary's value").data)


def _value(data: memoryview) -> Value:
    tag, metadata = "", b""
    content: Field | None = None
    for part in protos.read_fields(data, "the value", fields_max=_FIELDS_MAX):
        if part.number == 1:
            tag = protos.text(part, "the tag")
        elif part.number == 9:
            metadata = bytes(protos.expect(part, protos.SIZED, "metadata").data)
        elif part.number in (_SIMPLE_VALUE, _OBSOLETE) or part.number in summaries.VALUE_FIELDS:
            if content is not None:
                raise MalformedError(f"tag {tag!r} has two values in one")
            content = part
    if content is None or content.number == _OBSOLETE:
        return Value(tag, None, b"", metadata)
    if content.number == _SIMPLE_VALUE:
        return Value(tag, protos.float32(content, "simple_value"), b"", b"")
    return Value(tag, None, content.whole, metadata)


def _scalar_of_tensor(blob: bytes | memoryview) -> float:
    (content,) = protos.read_fields(memoryview(blob), "the value", fields_max=1)
    if content.number != summaries.TENSOR_FIELD:
        raise MalformedError("a scalar that is neither simple_value nor tensor")
    return tensors.scalar_of(content.data)


def _graph(data: memoryview) -> Value:
    tensor = protos.sized(summaries.TENSOR_FIELD, tensors.string_tensor(bytes(data)))
    return Value(summaries.GRAPH_TAG, None, tensor, _GRAPH_METADATA)


def _starts(session_log: memoryview) -> bool:
    """Whether a SessionLog says START."""
    return any(
        part.number == 1 and part.wire_type == protos.VARINT and part.varint == 1
        for part in protos.read_fields(session_log, "the session log", fields_max=_FIELDS_MAX)
    )
