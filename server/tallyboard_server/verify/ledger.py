"""Counts and checksums of points by tag and stretch of steps, expected and found: what tells where two views differ.

A stretch is a page of an attempt as it was read from the store, so memory grows with the number of pages and tags,
not with the number of points. Points are compared as event files hold them: values as float32.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Float64, Int64
from tallyboard_server.checksum import UInt64, add, column_sums, row_words, tag_words
from tallyboard_server.model import Block, Int32

Float32 = npt.NDArray[np.float32]
_NAN = np.uint32(0x7FC00000)


@dataclass(slots=True)
class Cell:
    """Points of one tag in one stretch."""

    count: int = 0
    sum: int = 0

    def put(self, count: int, total: int) -> None:
        """Add points."""
        self.count += count
        self.sum = add(self.sum, total)


@dataclass(slots=True)
class Stretch:
    """Visible steps of an attempt from `first` up to the next stretch: what should be there, and what is, by tag id."""

    counter_id: int
    attempt: int
    first: int
    expected: dict[int, Cell] = field(default_factory=dict)
    found: dict[int, Cell] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Mismatch:
    """A tag whose points in a stretch (steps from first to last) are not those expected."""

    stretch: Stretch
    tag_id: int
    first: int
    last: int
    expected: int
    found: int


class Ledger:
    """Stretches of all counters of a run. Those of a counter are begun in ascending order of steps.

    blob_tags: ids of the tags that are no scalars, whose values are keys.
    """

    def __init__(self, blob_tags: frozenset[int] = frozenset()) -> None:
        self._blob_tags = blob_tags
        self._stretches: dict[int, list[Stretch]] = {}
        self._firsts: dict[int, list[int]] = {}

    def begin(self, counter_id: int, attempt: int, first: int) -> Stretch:
        """A new stretch, after all others of the counter."""
        made = Stretch(counter_id, attempt, first)
        self._stretches.setdefault(counter_id, []).append(made)
        self._firsts.setdefault(counter_id, []).append(first)
        return made

    def expect(self, stretch: Stretch, block: Block) -> None:
        """The rows of a block should be there."""
        is_blob = int(block.tag_ids[0]) in self._blob_tags
        words = key_bits(block.values) if is_blob else value_bits(as_float32(block.values)).astype(np.uint64)
        _put(stretch.expected, block.tag_ids, block.steps, block.wall_times, words)

    def find(self, counter_id: int, tag_ids: Int32, steps: Int64, wall_times: Float64, values: Float32) -> Int64:
        """Rows that are there; returns the indices of those before every stretch, where nothing should be."""
        return self._find(counter_id, tag_ids, steps, wall_times, value_bits(values).astype(np.uint64))

    def find_blob(self, counter_id: int, tag_id: int, step: int, wall_time: float, key: float) -> bool:
        """One point of another kind that is there; returns whether it is before every stretch."""
        place = np.array([step], np.int64), np.array([wall_time])
        return bool(len(self._find(counter_id, np.array([tag_id], np.int32), *place, key_bits(np.array([[key]])))))

    def _find(self, counter_id: int, tag_ids: Int32, steps: Int64, wall_times: Float64, words: UInt64) -> Int64:
        firsts = self._firsts.get(counter_id, [])
        owners = np.searchsorted(np.array(firsts, np.int64), steps, side="right") - 1
        for owner in np.unique(owners).tolist():
            if owner >= 0:
                rows = np.flatnonzero(owners == owner)
                found = self._stretches[counter_id][owner].found
                _put(found, tag_ids, steps[rows], wall_times[rows], words[rows])
        return np.flatnonzero(owners < 0)

    def forget_found(self) -> None:
        """What was found so far was taken back (a session start at step 0)."""
        for stretch in self.stretches():
            stretch.found.clear()

    def stretches(self) -> Iterator[Stretch]:
        """All of them."""
        for ofcounter in self._stretches.values():
            yield from ofcounter

    def mismatches(self, last: int) -> Iterator[Mismatch]:
        """Where expected and found differ; `last`: where the last stretch of a counter ends."""
        for counter_id, stretches in self._stretches.items():
            firsts = self._firsts[counter_id]
            for stretch in stretches:
                if stretch.expected == stretch.found:
                    continue
                after = bisect_right(firsts, stretch.first)
                end = firsts[after] - 1 if after < len(firsts) else last
                for tag_id in sorted(stretch.expected.keys() | stretch.found.keys()):
                    one, other = stretch.expected.get(tag_id, Cell()), stretch.found.get(tag_id, Cell())
                    if one != other:
                        yield Mismatch(stretch, tag_id, stretch.first, end, one.count, other.count)


def as_float32(values: Float64) -> Float32:
    """Values as event files hold them: beyond float32's range they become ±Inf."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return values.astype(np.float32)


def value_bits(values: Float32) -> npt.NDArray[np.uint32]:
    """float32 values as bits, every NaN as the same one."""
    bits = np.ascontiguousarray(values).view(np.uint32).copy()
    bits[np.isnan(values)] = _NAN
    return bits


def key_bits(keys: Float64) -> UInt64:
    """Keys of blobs as bits."""
    return np.ascontiguousarray(keys).view(np.uint64)


def _put(cells: dict[int, Cell], tag_ids: Int32, steps: Int64, wall_times: Float64, words: UInt64) -> None:
    if not len(steps):
        return
    sums: Any = column_sums(tag_words(tag_ids.tobytes()), row_words(steps, wall_times), words)
    for tag_id, total in zip(tag_ids.tolist(), sums.tolist(), strict=True):
        cells.setdefault(tag_id, Cell()).put(len(steps), total)
