"""A piece of an event file as columns of scalars, single blobs, and marks where a session starts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tallyboard.logdir import hparams
from tallyboard.logdir.crc import masked_crc32c
from tallyboard.logdir.layouts import Int32, Layouts, Many
from tallyboard.logdir.mends import Kind, Mends
from tallyboard.logdir.scan import FOOTER_BYTES, Lengths, Scan, scan
from tallyboard.logdir.tags import Point, Tags
from tallyboard.wire import Float64, Int64, InvalidNameError, protos
from tallyboard.wire.events import Event, read_event
from tallyboard.wire.protos import MalformedError

_FIELDS_MAX: Final = 16
_FEW: Final = 4
"""Events of one size that are read one by one rather than as columns, unless their layout is known."""


class Start(NamedTuple):
    """A SessionLog START at a record: what the file holds at this step and later does not count any more."""

    record: int
    step: int


class Config(NamedTuple):
    """Hyperparameters in a record."""

    record: int
    config: dict[str, Any]


class Trouble(NamedTuple):
    """A record (or something in it) that can't be taken."""

    record: int
    kind: Kind
    detail: str


@dataclass(slots=True)
class Chunk:
    """What n records of a file hold.

    ends int64[n]: the offset after each, from the chunk's beginning. end, damage, needed: as a Scan has them. Points in
    file order: records int64[m] (which they come from), tags int32[m], steps int64[m], wall_times float64[m], values
    float64[m]: of one that is no scalar (is_blob bool[m]), its index in `blobs`. starts, configs, troubles: by record;
    troubles have to be told once the record counts as read.
    """

    ends: Int64
    end: int
    damage: str
    needed: int
    records: Int64
    tags: Int32
    steps: Int64
    wall_times: Float64
    values: Float64
    is_blob: npt.NDArray[np.bool_]
    blobs: list[bytes]
    starts: list[Start]
    configs: list[Config]
    troubles: list[Trouble]

    def __len__(self) -> int:
        return len(self.ends)

    def rows(self, lo: int, hi: int) -> slice:
        """The points of the records from lo to hi - 1."""
        begin, end = np.searchsorted(self.records, (lo, hi)).tolist()
        return slice(begin, end)


class Decoder:
    """Reads the chunks of one run's files; what it has learnt of one helps with the next."""

    def __init__(self, tags: Tags, lengths: Lengths) -> None:
        self.tags = tags
        self._layouts = Layouts(self._teach)
        self._lengths = lengths

    def decode(self, data: bytes) -> Chunk:
        """What the whole records at the beginning of `data` hold."""
        found = scan(data, self._lengths)
        array = np.frombuffer(data, np.uint8)
        gathered = _Gathered()
        for size, members in _by_size(found):
            places = found.at[members]
            others = members
            if len(members) > _FEW or self._layouts.knows(size):
                rows = np.lib.stride_tricks.sliding_window_view(array, size + FOOTER_BYTES)[places]
                many: list[Many] = []
                others = members[self._layouts.take(rows, many)]
                for part in many:
                    gathered.add_many(part, members)
            for record, at in zip(others.tolist(), found.at[others].tolist(), strict=True):
                self._one(record, data[at : at + size], data[at + size : at + size + FOOTER_BYTES], gathered)
        return gathered.chunk(found)

    def _one(self, record: int, event: bytes, footer: bytes, gathered: "_Gathered") -> None:
        if masked_crc32c(event) != int.from_bytes(footer, "little"):
            gathered.troubles.append(Trouble(record, "checksum", ""))
            return
        try:
            seen = read_event(memoryview(event))
            if seen.left_out:
                gathered.troubles.append(Trouble(record, "not_data", seen.left_out))
            start = seen.purge_step if seen.purge_step is not None else _start_at_zero(event, seen)
        except (MalformedError, InvalidNameError) as error:
            gathered.troubles.append(Trouble(record, "left_out", str(error)))
            return
        if start is not None:
            gathered.starts.append(Start(record, start))
        wall_time = 0.0 if seen.wall_time is None else seen.wall_time
        for value in seen.values:
            try:
                point = self.tags.point(value)
            except (MalformedError, InvalidNameError) as error:
                gathered.troubles.append(Trouble(record, "left_out", f"tag {value.tag[:80]!r}: {error}"))
                continue
            if point is None:
                detail = f"tag {value.tag[:80]!r} without a known content"
                gathered.troubles.append(Trouble(record, "not_data", detail))
                continue
            gathered.add_point(record, seen.step, wall_time, point)
            if value.tag == hparams.START_TAG:
                self._configure(record, value.metadata, gathered)

    def _configure(self, record: int, metadata: bytes, gathered: "_Gathered") -> None:
        try:
            if hparams.has_config(metadata, hparams.START_TAG):
                gathered.configs.append(Config(record, hparams.read_config(metadata)))
        except MalformedError as error:
            gathered.troubles.append(Trouble(record, "hyperparameters", str(error)))

    def _teach(self, event: bytes) -> tuple[list[int], list[float]] | None:
        """Ids and numbers of an Event of scalars; None for any other."""
        try:
            points = [self.tags.point(value) for value in read_event(memoryview(event)).values]
        except (MalformedError, InvalidNameError):
            return None
        tags = [point.tag for point in points if point is not None]
        numbers = [point.number for point in points if point is not None and point.number is not None]
        return (tags, numbers) if len(numbers) == len(points) else None


@dataclass(slots=True)
class _Gathered:
    """What has been decoded so far, in pieces."""

    parts: list[tuple[Int64, Int32, Int64, Float64, Float64]] = field(default_factory=list)
    singles: list[tuple[int, int, int, float, float]] = field(default_factory=list)
    are_blobs: list[bool] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    configs: list[Config] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def add_many(self, part: Many, members: Int64) -> None:
        """Columns of the records that `part.rows` are indices of members to."""
        records = members[part.rows]
        good = part.good & np.isfinite(part.wall_times)
        if not good.all():
            for record in records[~part.good].tolist():
                self.troubles.append(Trouble(record, "checksum", ""))
            for record in records[part.good & ~good].tolist():
                self.troubles.append(Trouble(record, "left_out", "a wall time that is not finite"))
        kept = slice(None) if good.all() else good
        count = part.values.shape[1]
        self.parts.append(
            (
                np.repeat(records[kept], count),
                part.tags[kept].reshape(-1),
                np.repeat(part.steps[kept], count),
                np.repeat(part.wall_times[kept], count),
                part.values[kept].reshape(-1),
            )
        )

    def add_point(self, record: int, step: int, wall_time: float, point: Point) -> None:
        value = point.number
        self.are_blobs.append(value is None)
        if value is None:
            value = float(len(self.blobs))
            self.blobs.append(point.blob)
        self.singles.append((record, point.tag, step, wall_time, value))

    def chunk(self, found: Scan) -> Chunk:
        columns = list(zip(*self.singles, strict=True)) or [(), (), (), (), ()]
        kinds = (np.int64, np.int32, np.int64, np.float64, np.float64)
        single = tuple(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))
        joined = [np.concatenate(column) for column in zip(*self.parts, single, strict=True)]
        is_blob = np.zeros(len(joined[0]), np.bool_)
        is_blob[len(is_blob) - len(self.are_blobs) :] = self.are_blobs
        order = np.argsort(joined[0], kind="stable")
        records, tags, steps, wall_times, values = (column[order] for column in joined)
        ends = found.at + found.sizes + FOOTER_BYTES
        return Chunk(
            ends, found.end, found.damage, found.needed, records, tags, steps, wall_times, values,
            is_blob[order], self.blobs, sorted(self.starts), self.configs, sorted(self.troubles),
        )  # fmt: skip


def tell(troubles: Iterable[Trouble], mends: Mends, where: str) -> None:
    """Count troubles among the mends."""
    counted = Counter((trouble.kind, trouble.detail) for trouble in troubles)
    for (kind, detail), count in counted.items():
        mends.add(kind, count, f"{where}: {detail}" if detail else where)


def _by_size(found: Scan) -> list[tuple[int, Int64]]:
    """The records by the size of their data, in file order: size and indices."""
    if not len(found.sizes):
        return []
    keys: npt.NDArray[np.unsignedinteger] | Int64 = found.sizes
    if int(found.sizes.max()) < 1 << 16:  # numpy sorts these by their digits
        keys = found.sizes.astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    sizes = found.sizes[order]
    begins = np.flatnonzero(np.diff(sizes, prepend=-1))
    return list(zip(sizes[begins].tolist(), np.split(order, begins[1:]), strict=True))


def _start_at_zero(event: bytes, seen: Event) -> int | None:
    """0 if the Event is a session start at step 0, else None."""
    if seen.values or seen.left_out:
        return None
    for content in protos.read_fields(memoryview(event), "the event", fields_max=_FIELDS_MAX):
        if content.number == 7:
            log = protos.read_fields(content.data, "the session log", fields_max=_FIELDS_MAX)
            if any(part.number == 1 and part.varint == 1 for part in log):
                return seen.step
    return None
