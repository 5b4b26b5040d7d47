"""Reports as packed bytes: what `log` leaves behind for the sender, at the price of one C call a report.

A row is a struct of 8-byte little-endian fields: step int64, wall time float64, the other counters' values int64
each, the scalars float64 each. So the rows of a lane are a matrix that numpy can read as columns in place.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Any, Final

import numpy as np

from tallyboard.collect.tracking import CounterState
from tallyboard.wire import Columns, Open, Rewind, Status

ROW_OVERHEAD_BYTES: Final = 64
"""Counted on top of a row's own bytes, so that one budget bounds both the bytes and the rows of a section."""


class Rows:
    """What one lane has in one section, in the order in which it was logged. number: the section's."""

    __slots__ = ("buffer", "number", "put")

    def __init__(self, number: int) -> None:
        self.number = number
        self.buffer = bytearray()
        self.put: Callable[[bytes], object] = self.buffer.extend  # which returns None


class Lane:
    """Reports with the same counter, tags and `at` names. rows: those in the section that it was last used in."""

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
        self.cost = 8 * (2 + len(at_names) + len(tags)) + ROW_OVERHEAD_BYTES
        self.apart = apart  # see Section
        self.rows = Rows(0)

    def packed(self, rows: Rows) -> "Packed":
        """Rows of this lane, with what it takes to read them."""
        return Packed(self.counter.name, self.tags, self.at_names, rows.buffer)


@dataclass(slots=True, frozen=True)
class Packed:
    """Rows taken out of a lane."""

    counter: str
    tags: tuple[str, ...]
    at_names: tuple[str, ...]
    rows: bytearray

    def __len__(self) -> int:
        return len(self.rows) // (8 * (2 + len(self.at_names) + len(self.tags)))

    def columns(self) -> Columns:
        """The same rows as columns (copies: each contiguous)."""
        n, a = len(self), len(self.at_names)
        whole = np.frombuffer(self.rows, dtype="<i8").reshape(n, -1)
        real = np.frombuffer(self.rows, dtype="<f8").reshape(n, -1)
        return Columns(
            counter=self.counter,
            tags=self.tags,
            steps=whole[:, 0].copy(),
            wall_times=real[:, 1].copy(),
            values=real[:, 2 + a :].copy(),
            at={name: whole[:, 2 + i].copy() for i, name in enumerate(self.at_names)},
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

    @property
    def counters(self) -> set[str]:
        """The counters that its rows are reported against."""
        return {packed.counter for packed in _both(self.rows, self.apart)}

    @property
    def reports(self) -> int:
        """How many rows it holds."""
        return sum(map(len, _both(self.rows, self.apart)))


def _both(rows: Iterable[Packed], apart: Iterable[Packed]) -> Iterable[Packed]:
    yield from rows
    yield from apart


@lru_cache(maxsize=1024)
def _row_struct(at: int, tags: int) -> Struct:
    return Struct(f"<qd{at}q{tags}d")


@lru_cache(maxsize=1024)
def _bits_struct(at: int, tags: int) -> Struct:
    return Struct(f"<{16 + 8 * at}x{tags}Q")
