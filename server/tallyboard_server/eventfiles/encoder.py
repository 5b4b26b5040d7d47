"""From columns of reports to the bytes of TensorBoard event records, without an object per scalar.

The same columns always give the same bytes, however they are cut into calls: that is what lets an exporter write a
piece of a file again after a crash. Whatever changes the bytes of a report must raise ENCODER_VERSION.

    record  u64le length · u32le masked crc32c(length) · Event · u32le masked crc32c(Event)
    Event   09 f64 wall_time · 10 varint step (absent if 0) · 2a len Summary
    Summary for each tag: 0a len Value{ 0a len tag · 15 f32 simple_value }
"""

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from tallyboard.wire import Float64, Int64
from tallyboard_server.eventfiles.crc import mask, masked_crc32c
from tallyboard_server.eventfiles.tfrecord import FOOTER_BYTES, HEADER_BYTES, frame, frame_header

ENCODER_VERSION: Final = 1

Bytes = npt.NDArray[np.uint8]
Data = bytes | memoryview

WALL_TIME_AT: Final = HEADER_BYTES + 1
STEP_AT: Final = WALL_TIME_AT + 8 + 1
_STEP_CLASSES: Final = np.array([1, *(1 << (7 * i) for i in range(1, 9))], dtype=np.int64)
"""Least step of each varint length: below 1 the field is absent, from 1 on it has one byte, from 128 on two, …"""
_SLAB_BYTES: Final = 1024 * 1024
"""Rows are encoded this many bytes at a time: the matrix stays in the processor's cache."""
_FEW_ROWS: Final = 4
_FEW_TAGS: Final = 32
"""Up to here, row by row is faster than a matrix (at ten tags 6 µs a row, against 30 µs for a small matrix)."""
_WALL_TIME: Final = struct.Struct("<d")
_CRC: Final = struct.Struct("<I")


@dataclass(slots=True, frozen=True)
class Template:
    """A record of certain tags and a certain varint length, complete but for what differs from row to row.

    row: its bytes, uint8[size]. step_bytes: 0 to 9. value_at: offset of each tag's float32. scatter: int64[4 k],
    the offsets of all their bytes.
    """

    row: Bytes
    step_bytes: int
    value_at: tuple[int, ...]
    scatter: Int64

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.row.nbytes + self.scatter.nbytes + 32 * len(self.value_at) + 256


class Encoder:
    """Encodes reports, and remembers the layout of the tag sets it has met (bounded). Not thread-safe."""

    def __init__(self, *, templates_bytes_max: int = 16 * 1024 * 1024) -> None:
        self._templates: OrderedDict[tuple[tuple[str, ...], int], Template] = OrderedDict()
        self.templates_bytes = 0
        self._templates_bytes_max = templates_bytes_max

    def encode_reports(self, tags: Sequence[str], steps: Int64, wall_times: Float64, values: Float64) -> bytes:
        """`encode` as one piece."""
        return b"".join(self.encode(tags, steps, wall_times, values))

    def encode(self, tags: Sequence[str], steps: Int64, wall_times: Float64, values: Float64) -> list[Data]:
        """One record per report, with all its tags, in the order given; in pieces of whole records.

        steps int64[n] ≥ 0, wall_times float64[n] finite, values float64[n, k]. Values are stored as float32: beyond
        its range they become ±Inf, and NaN stays NaN.
        """
        tags = tuple(tags)
        n, k = values.shape
        if len(tags) != k or len(steps) != n or len(wall_times) != n:
            raise ValueError(
                f"{len(tags)} tags, {len(steps)} steps, {len(wall_times)} wall times for values of {n} × {k}"
            )
        if n <= _FEW_ROWS and k <= _FEW_TAGS:
            floats = _as_float32(values)
            return [
                self._encode_row(tags, step, wall_time, floats[i])
                for i, (step, wall_time) in enumerate(zip(steps.tolist(), wall_times.tolist(), strict=True))
            ]
        classes = np.searchsorted(_STEP_CLASSES, steps, side="right")
        borders = np.flatnonzero(np.diff(classes)) + 1
        pieces: list[Data] = []
        low = 0
        for high in (*borders.tolist(), n):
            template = self._template(tags, int(classes[low]))
            rows_max = max(1, _SLAB_BYTES // len(template.row))
            pieces += (
                _encode_slab(template, steps[i:j], wall_times[i:j], values[i:j])
                for i in range(low, high, rows_max)
                for j in (min(i + rows_max, high),)
            )
            low = high
        return pieces

    def record_sizes(self, tags: Sequence[str], steps: Int64) -> Int64:
        """Bytes of each record that encode_reports makes: int64[n]."""
        bare = len(self._template(tuple(tags), 0).row)
        classes = np.searchsorted(_STEP_CLASSES, steps, side="right")
        return bare + classes + (classes > 0)

    def _encode_row(self, tags: tuple[str, ...], step: int, wall_time: float, floats: npt.NDArray[np.float32]) -> bytes:
        template = self._template(tags, varint_bytes(step))
        record = bytearray(template.row)
        _WALL_TIME.pack_into(record, WALL_TIME_AT, wall_time)
        if template.step_bytes:
            record[STEP_AT : STEP_AT + template.step_bytes] = varint(step)
        data = floats.tobytes()
        for i, at in enumerate(template.value_at):
            record[at : at + 4] = data[4 * i : 4 * i + 4]
        end = len(record) - FOOTER_BYTES
        _CRC.pack_into(record, end, masked_crc32c(memoryview(record)[HEADER_BYTES:end]))
        return bytes(record)

    def _template(self, tags: tuple[str, ...], step_bytes: int) -> Template:
        key = (tags, step_bytes)
        template = self._templates.get(key)
        if template is not None:
            self._templates.move_to_end(key)
            return template
        template = make_template(tags, step_bytes)
        self._templates[key] = template
        self.templates_bytes += template.nbytes
        while self.templates_bytes > self._templates_bytes_max and len(self._templates) > 1:
            _, oldest = self._templates.popitem(last=False)
            self.templates_bytes -= oldest.nbytes
        return template


def encode_header(wall_time: float) -> bytes:
    """The record that opens every event file: file version 2."""
    return frame(_event(wall_time, b"\x1a" + _sized(b"brain.Event:2")))


def encode_session_start(wall_time: float) -> bytes:
    """SessionLog START at step 0: from its second one in a run on, the Python reader drops every point before it."""
    return frame(_event(wall_time, b"\x3a" + _sized(b"\x08\x01")))


def file_head(seconds: int) -> bytes:
    """The records that every event file of ours begins with; `seconds` is the time in its name."""
    return encode_header(float(seconds)) + encode_session_start(float(seconds))


def encode_placeholders(wall_time: float, tags: Sequence[str]) -> bytes:
    """A NaN at step 0 for each tag. Only before a START, which takes it out of the Python reader again."""
    values = (b"\x0a" + _sized(tag.encode()) + b"\x15\x00\x00\xc0\x7f" for tag in tags)
    return frame(_event(wall_time, _summary(values)))


def encode_eraser(wall_time: float, tags: Sequence[str]) -> bytes:
    """A record at step 0 that makes the Rust reader forget every point of `tags`, and that no reader shows.

    Its values are of a kind (obsolete_old_style_histogram) that the Rust reader takes into the tag's reservoir,
    which drops whatever stands at the same step or later, but can't turn into a scalar, and that the Python reader
    passes over. The metadata says that the tag is a scalar all the same, for a reader that meets it here first.
    """
    metadata = b"\x4a" + _sized(b"\x0a" + _sized(b"\x0a" + _sized(b"scalars")) + b"\x20\x01")
    values = (b"\x0a" + _sized(tag.encode()) + b"\x1a\x00" + metadata for tag in tags)
    return frame(_event(wall_time, _summary(values)))


def encode_summary(wall_time: float, step: int, values: Iterable[bytes]) -> bytes:
    """One record of any serialised Summary.Values."""
    return frame(_event(wall_time, (b"\x10" + varint(step) if step else b"") + _summary(values)))


def varint(number: int) -> bytes:
    """A protobuf varint of a number from 0 to 2^64 - 1."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def varint_bytes(step: int) -> int:
    """Bytes of a step in a record: 0 for step 0, which is left out."""
    return (step.bit_length() + 6) // 7


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def _event(wall_time: float, body: bytes) -> bytes:
    return b"\x09" + _WALL_TIME.pack(wall_time) + body


def _summary(values: Iterable[bytes]) -> bytes:
    return b"\x2a" + _sized(b"".join(b"\x0a" + _sized(value) for value in values))


def make_template(tags: tuple[str, ...], step_bytes: int) -> Template:
    """The layout of the records of a tag set whose step takes so many bytes."""
    summary = bytearray()
    value_at = []
    for tag in tags:
        value = b"\x0a" + _sized(tag.encode()) + b"\x15\x00\x00\x00\x00"
        summary += b"\x0a" + _sized(value)
        value_at.append(len(summary) - 4)
    step = b"\x10" + bytes(step_bytes) if step_bytes else b""
    head = _event(0.0, step + b"\x2a" + varint(len(summary)))
    event = head + bytes(summary)
    base = HEADER_BYTES + len(head)
    offsets = np.array(value_at, dtype=np.int64) + base
    return Template(
        row=np.frombuffer(frame_header(len(event)) + event + bytes(FOOTER_BYTES), dtype=np.uint8),
        step_bytes=step_bytes,
        value_at=tuple(offsets.tolist()),
        scatter=(offsets[:, None] + np.arange(4)).reshape(-1),
    )


def _encode_slab(template: Template, steps: Int64, wall_times: Float64, values: Float64) -> memoryview:
    """Rows of one varint length as a byte matrix: one row a record, filled column by column."""
    n, k = values.shape
    size = len(template.row)
    rows = np.empty((n, size), dtype=np.uint8)
    rows[:] = template.row
    rows[:, WALL_TIME_AT : WALL_TIME_AT + 8] = _as_bytes(wall_times.astype("<f8"), n, 8)
    for i in range(template.step_bytes):
        more = 0x80 if i + 1 < template.step_bytes else 0
        rows[:, STEP_AT + i] = (steps >> (7 * i)) & 0x7F | more
    data = _as_bytes(_as_float32(values), n, 4 * k)
    if n >= k:
        for i, at in enumerate(template.value_at):
            rows[:, at : at + 4] = data[:, 4 * i : 4 * i + 4]
    else:
        for i in range(n):
            rows[i, template.scatter] = data[i]
    view = rows.reshape(-1).data
    ends = range(size - FOOTER_BYTES, n * size, size)
    body = size - FOOTER_BYTES - HEADER_BYTES
    crcs = np.fromiter((crc32c(view[end - body : end]) for end in ends), dtype=np.uint32, count=n)
    rows[:, size - FOOTER_BYTES :] = _as_bytes(mask(crcs).astype("<u4"), n, 4)
    return view


def _as_float32(values: Float64) -> npt.NDArray[np.float32]:
    """Little-endian float32; beyond its range ±Inf, without a warning."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return values.astype("<f4")


def _as_bytes(column: npt.NDArray[np.generic], n: int, width: int) -> Bytes:
    return np.ascontiguousarray(column).view(np.uint8).reshape(n, width)
