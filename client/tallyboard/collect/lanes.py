"""Reports as packed bytes: what `log` leaves behind for the sender, at the price of one C call a report.

A row is a struct of 8-byte little-endian fields: step int64, wall time float64, the other counters' values int64
each, the scalars float64 each. So the rows of a lane are a matrix that numpy can read as columns in place. Of a tag
that is no scalar the row holds 64 bits that tell its blobs apart, and the blob stands beside it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from struct import Struct
from typing import Any, Final

import numpy as np

from tallyboard.collect.blobs import PendingBlob
from tallyboard.collect.tracking import CounterState
from tallyboard.wire import Alert, Columns, Open, Rewind, Status, names, summaries

ROW_OVERHEAD_BYTES: Final = 64
"""Counted on top of a row's own bytes, so that one budget bounds both the bytes and the rows of a section."""
PACKED_OVERHEAD_BYTES: Final = 256
"""Counted for what a lane leaves in a section, which matters where thousands of tags have a row or two each."""


class Rows:
    """What one lane has in one section, in the order in which it was logged.

    number: the section's. put: keeps one more, in one step, and returns None.
    """

    __slots__ = ("_buffer", "number", "put")

    def __init__(self, number: int) -> None:
        self.number = number
        self.release()

    @property
    def empty(self) -> bool:
        """Whether nothing was put."""
        return not self._buffer

    @property
    def nbytes(self) -> int:
        """What it holds in memory."""
        return PACKED_OVERHEAD_BYTES + len(self._buffer)

    def content(self) -> tuple[bytearray, list[PendingBlob]]:
        """The rows, and the blob of each if they are such."""
        return self._buffer, []

    def release(self) -> None:
        """Let go of what was put."""
        self._buffer = bytearray()
        self.put: Callable[[Any], object] = self._buffer.extend


class BlobRows(Rows):
    """The same of a lane of blobs: what is put is a row with its blob, so that none is ever without the other."""

    __slots__ = ("_pairs",)

    @property
    def empty(self) -> bool:
        """Whether nothing was put."""
        return not self._pairs

    @property
    def nbytes(self) -> int:
        """What it holds in memory."""
        return PACKED_OVERHEAD_BYTES + sum(len(row) + blob.nbytes for row, blob in list(self._pairs))

    def content(self) -> tuple[bytearray, list[PendingBlob]]:
        """The rows, and the blob of each."""
        pairs = list(self._pairs)
        return bytearray().join(row for row, _ in pairs), [blob for _, blob in pairs]

    def release(self) -> None:
        """Let go of what was put."""
        self._pairs: list[tuple[bytes, PendingBlob]] = []
        self.put = self._pairs.append


class Lane:
    """Reports with the same counter, tags and `at` names. rows: those in the section that it was last used in."""

    kind = summaries.SCALARS
    metadata = b""
    __slots__ = ("apart", "at_names", "cost", "counter", "others", "pack", "rows", "tags", "unpack_bits")

    def __init__(
        self,
        counter: CounterState,
        tags: tuple[str, ...],
        at_names: tuple[str, ...] = (),
        others: tuple[CounterState, ...] = (),
        *,
        apart: bool = False,
    ) -> None:
        self.counter = counter
        self.tags = tags
        self.at_names = at_names
        self.others = others  # whose values fill `at` by themselves; empty if the caller gave some
        self.pack: Callable[..., bytes] = _row_struct(len(at_names), len(tags)).pack
        self.unpack_bits: Callable[[bytes], tuple[int, ...]] = _bits_struct(len(at_names), len(tags)).unpack
        self.cost = row_bytes(len(at_names), len(tags)) + ROW_OVERHEAD_BYTES
        self.apart = apart  # see Section
        self.rows = self.rows_of(0)

    def rows_of(self, number: int) -> Rows:
        """Room for its rows in the section of that number."""
        return Rows(number)

    def packed(self, rows: Rows) -> "Packed":
        """Rows of this lane, with what it takes to read them."""
        content, blobs = rows.content()
        return Packed(self.counter.name, self.tags, self.at_names, content, self.kind, self.metadata, blobs)


class BlobLane(Lane):
    """Blobs of one tag, all of one kind and with the same metadata."""

    __slots__ = ("kind", "metadata")

    def __init__(
        self,
        counter: CounterState,
        tag: str,
        blob: PendingBlob,
        at_names: tuple[str, ...] = (),
        others: tuple[CounterState, ...] = (),
        *,
        apart: bool = False,
    ) -> None:
        super().__init__(counter, (tag,), at_names, others, apart=apart)
        self.kind = blob.kind
        self.metadata = blob.metadata
        self.pack = _blob_struct(len(at_names)).pack
        self.cost += len(self.metadata) + 2 * len(tag.encode())

    def rows_of(self, number: int) -> Rows:
        """Room for its rows and blobs in the section of that number."""
        return BlobRows(number)


@dataclass(slots=True, frozen=True)
class Packed:
    """Rows taken out of a lane."""

    counter: str
    tags: tuple[str, ...]
    at_names: tuple[str, ...]
    rows: bytearray
    kind: str = summaries.SCALARS
    metadata: bytes = b""
    blobs: list[PendingBlob] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) // row_bytes(len(self.at_names), len(self.tags))

    def encoded(self, failed: Callable[[], None]) -> "Packed":
        """The same with its blobs encoded; without those that can't be, of which `failed` is told as it is handled."""
        good = []
        for index, blob in enumerate(self.blobs):
            try:
                blob.encode()
                good.append(index)
            except Exception:  # noqa: BLE001 - one that can't be encoded must not take the others with it
                failed()
        if len(good) == len(self.blobs):
            return self
        size = row_bytes(len(self.at_names), 1)
        rows = bytearray().join(self.rows[size * index : size * (index + 1)] for index in good)
        return replace(self, rows=rows, blobs=[self.blobs[index] for index in good])

    def columns(self) -> Columns:
        """The same rows as columns (copies: each contiguous)."""
        n, a = len(self), len(self.at_names)
        whole = np.frombuffer(self.rows, dtype="<i8").reshape(n, -1)
        real = np.frombuffer(self.rows, dtype="<f8").reshape(n, -1)
        blobs = tuple(summaries.blob_of(blob.encode()) for blob in self.blobs)
        return Columns(
            counter=self.counter,
            tags=self.tags,
            steps=whole[:, 0].copy(),
            wall_times=real[:, 1].copy(),
            values=summaries.keys_of(blobs) if blobs else real[:, 2 + a :].copy(),
            at={name: whole[:, 2 + i].copy() for i, name in enumerate(self.at_names)},
            kind=self.kind,
            metadata=self.metadata,
            blobs=blobs,
        )


@dataclass(slots=True, frozen=True)
class Section:
    """A stretch of what a run recorded, its parts in the order in which they take effect.

    `apart` holds reports that the contract refuses because of what `rows` holds. The server sorts the reports of one
    batch by step, which could let them in: so they travel in a batch of their own, after the others.
    number: counts the sections of a run, from 1.
    """

    number: int
    open: Open | None = None
    rewind: Rewind | None = None
    rows: list[Packed] = field(default_factory=list)
    apart: list[Packed] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    status: Status | None = None
    alerts: list[Alert] = field(default_factory=list)

    @property
    def counters(self) -> set[str]:
        """The counters that its rows are reported against; tags' own together as `tag:*`."""
        return {names.gathered(packed.counter) for packed in _both(self.rows, self.apart)}

    def encoded(self, failed: Callable[[], None]) -> "Section":
        """The same with its blobs encoded: see Packed."""
        if not any(packed.blobs for packed in _both(self.rows, self.apart)):
            return self
        rows, apart = (
            [whole for packed in part if (whole := packed.encoded(failed)).rows] for part in (self.rows, self.apart)
        )
        empty = not (rows or apart or self.open or self.rewind or self.alerts or self.summary or self.status)
        opening = Open(resume="new") if empty else self.open  # which changes nothing: no batch may be empty
        return replace(self, rows=rows, apart=apart, open=opening)

    @property
    def reports(self) -> int:
        """How many rows it holds."""
        return sum(map(len, _both(self.rows, self.apart)))


def _both(rows: Iterable[Packed], apart: Iterable[Packed]) -> Iterable[Packed]:
    yield from rows
    yield from apart


def row_bytes(at: int, tags: int) -> int:
    """Bytes of a row."""
    return 8 * (2 + at + tags)


@lru_cache(maxsize=1024)
def _blob_struct(at: int) -> Struct:
    return Struct(f"<qd{at}qQ")


@lru_cache(maxsize=1024)
def _row_struct(at: int, tags: int) -> Struct:
    return Struct(f"<qd{at}q{tags}d")


@lru_cache(maxsize=1024)
def _bits_struct(at: int, tags: int) -> Struct:
    return Struct(f"<{16 + 8 * at}x{tags}Q")
