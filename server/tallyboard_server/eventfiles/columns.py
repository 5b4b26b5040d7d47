"""Reads event files back as columns: neighbouring records of one layout become arrays at once.

What our encoder wrote is read some fifty times faster than record by record, which is what makes checking a large
file affordable. Anything else in a file (or anything damaged) takes the slow way, with the same result. Each layout
is believed only after its first record was read both ways.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from tallyboard.wire import Float64, Int64
from tallyboard_server.eventfiles.crc import mask
from tallyboard_server.eventfiles.encoder import STEP_AT, WALL_TIME_AT, Bytes, Template, make_template, varint_bytes
from tallyboard_server.eventfiles.reader import BlobPoint, FileVersion, ScalarPoint, SessionStart, meaning_of
from tallyboard_server.eventfiles.tfrecord import FOOTER_BYTES, HEADER_BYTES, Damage, Record, read_records, record_size

Float32 = npt.NDArray[np.float32]

BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Read at a time, and so about the size of what is yielded."""
_LAYOUTS_MAX: Final = 256
_FEW_RECORDS: Final = 16


@dataclass(slots=True, frozen=True)
class PointColumns:
    """Reports of the same tags in file order: steps int64[n], wall_times float64[n], values float32[n, k]."""

    tags: tuple[str, ...]
    steps: Int64
    wall_times: Float64
    values: Float32


Part = PointColumns | BlobPoint | FileVersion | SessionStart | Damage


def read_columns(stream: BinaryIO, length: int) -> Iterator[Part]:
    """What the first `length` bytes hold, from the stream's position on; a Damage, if there is one, comes last.

    Offsets in a Damage count from where the stream stood. Memory: a few times BUFFER_BYTES and the longest record.
    """
    reader = _Reader()
    at = 0
    rest = b""
    while at + len(rest) < length:
        piece = stream.read(min(BUFFER_BYTES, length - at - len(rest)))
        if not piece:
            break
        data = rest + piece
        for part in reader.parts(data):
            if isinstance(part, Damage):
                yield Damage(at + part.offset, part.reason, part.torn)
                return
            yield part
        at += reader.used
        rest = data[reader.used :]
    if rest:
        yield Damage(at, f"{len(rest)} bytes of a record that goes on", torn=True)


@dataclass(slots=True, frozen=True)
class _Layout:
    """A template, and which of its bytes are the same in every record: indices int64[m] and the bytes there."""

    tags: tuple[str, ...]
    template: Template
    fixed: Int64
    fixed_bytes: Bytes


@dataclass(slots=True)
class _Reader:
    """layouts: those met so far, by record size (count of them in all). used: bytes of the data read so far."""

    layouts: dict[int, list[_Layout]] = field(default_factory=dict)
    count: int = 0
    used: int = 0

    def parts(self, data: bytes) -> Iterator[Part]:
        """What the whole records in `data` hold, up to a Damage; `used` tells how far they reach."""
        array = np.frombuffer(data, np.uint8)
        self.used = 0
        while (size := record_size(data, self.used)) is not None:
            if isinstance(size, Damage):
                yield size
                return
            if self.used + size > len(data):
                return
            alike = self._alike(array, self.used, size)
            if alike is not None:
                yield from self._many(*alike)
            else:
                yield from self._one(data, size)

    def _many(self, layout: _Layout, rows: Bytes) -> Iterator[Part]:
        whole = _whole_rows(rows)
        self.used += whole * rows.shape[1]
        if whole:
            yield _columns(layout, rows[:whole])
        if whole < len(rows):
            yield Damage(self.used, "the data's checksum is wrong", torn=False)

    def _one(self, data: bytes, size: int) -> Iterator[Part]:
        """One record, read as any TFRecord of any Event."""
        record = data[self.used : self.used + size]
        (read,) = read_records(BytesIO(record))
        parts: list[Part] = [read] if isinstance(read, Damage) else list(_gathered(read))
        for part in parts:
            yield Damage(self.used, part.reason, part.torn) if isinstance(part, Damage) else part
        self.used += size
        self._learn(np.frombuffer(record, np.uint8), parts)

    def _alike(self, array: Bytes, at: int, size: int) -> tuple[_Layout, Bytes] | None:
        """The known layout of the record at an offset, and it and all that follow with the same one as a matrix."""
        record = array[at : at + size]
        for layout in self.layouts.get(size, ()):
            if np.array_equal(record[layout.fixed], layout.fixed_bytes) and _good_steps(layout, record[None, :])[0]:
                break
        else:
            return None
        most = (len(array) - at) // size
        count, ask = 1, _FEW_RECORDS
        while count < most:  # ask for ever more, so that a change of layout costs little and long stretches too
            more = min(ask, most - count)
            rows = array[at + count * size : at + (count + more) * size].reshape(more, size)
            good = (rows[:, layout.fixed] == layout.fixed_bytes).all(axis=1)
            good &= _good_steps(layout, rows)
            if not good.all():
                count += int(np.argmin(good))
                break
            count += more
            ask *= 4
        return layout, array[at : at + count * size].reshape(count, size)

    def _learn(self, record: Bytes, parts: list[Part]) -> None:
        """Remember the layout of a record that was read the slow way, if it is one of ours and both ways agree."""
        if len(parts) != 1 or not isinstance(found := parts[0], PointColumns) or self.count >= _LAYOUTS_MAX:
            return
        step = int(found.steps[0])
        if step < 0:
            return
        template = make_template(found.tags, varint_bytes(step))
        layout = _layout(found.tags, template)
        if len(template.row) != len(record) or not np.array_equal(record[layout.fixed], layout.fixed_bytes):
            return
        again = _columns(layout, record[None, :])
        same = (
            again.steps[0] == step
            and again.wall_times.tobytes() == found.wall_times.tobytes()
            and np.array_equal(again.values, found.values, equal_nan=True)
        )
        if same:
            self.layouts.setdefault(len(record), []).append(layout)
            self.count += 1


def _layout(tags: tuple[str, ...], template: Template) -> _Layout:
    varies = np.zeros(len(template.row), np.bool_)
    varies[WALL_TIME_AT : WALL_TIME_AT + 8] = True
    varies[STEP_AT : STEP_AT + template.step_bytes] = True
    varies[template.scatter] = True
    varies[-FOOTER_BYTES:] = True
    fixed = np.flatnonzero(~varies)
    return _Layout(tags, template, fixed, template.row[fixed])


def _good_steps(layout: _Layout, rows: Bytes) -> npt.NDArray[np.bool_]:
    """Whether each row's step is a varint of the layout's length: every byte but the last says that more follows."""
    count = layout.template.step_bytes
    if not count:
        return np.ones(len(rows), np.bool_)
    more = rows[:, STEP_AT : STEP_AT + count] >= 0x80
    good: npt.NDArray[np.bool_] = more[:, :-1].all(axis=1) & ~more[:, -1]
    return good


def _whole_rows(rows: Bytes) -> int:
    """How many rows from the first on have the checksum that they say."""
    size = rows.shape[1]
    view = np.ascontiguousarray(rows).reshape(-1).data
    ends = range(size - FOOTER_BYTES, len(rows) * size, size)
    body = size - FOOTER_BYTES - HEADER_BYTES
    crcs = np.fromiter((crc32c(view[end - body : end]) for end in ends), dtype=np.uint32, count=len(rows))
    said = np.ascontiguousarray(rows[:, size - FOOTER_BYTES :]).view("<u4").reshape(-1)
    wrong = mask(crcs) != said
    return int(np.argmax(wrong)) if wrong.any() else len(rows)


def _columns(layout: _Layout, rows: Bytes) -> PointColumns:
    n, k = len(rows), len(layout.tags)
    steps = np.zeros(n, np.int64)
    for i in range(layout.template.step_bytes):
        steps |= (rows[:, STEP_AT + i] & np.uint8(0x7F)).astype(np.int64) << (7 * i)
    wall_times = np.ascontiguousarray(rows[:, WALL_TIME_AT : WALL_TIME_AT + 8]).view("<f8").reshape(n)
    values = np.ascontiguousarray(rows[:, layout.template.scatter]).view("<f4").reshape(n, k)
    return PointColumns(layout.tags, steps, wall_times, values)


def _gathered(record: Record) -> Iterator[Part]:
    """What a record means, its points together."""
    points: list[ScalarPoint] = []
    for item in meaning_of(record):
        if isinstance(item, ScalarPoint):
            points.append(item)
        else:
            yield item
    if points:
        values = np.array([[point.value for point in points]], np.float32)
        steps = np.array([points[0].step], np.int64)
        yield PointColumns(tuple(p.tag for p in points), steps, np.array([points[0].wall_time]), values)
