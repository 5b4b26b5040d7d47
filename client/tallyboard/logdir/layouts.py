"""Many Events of scalars at once: those of one outline and the same bytes around its numbers become columns.

An outline is learnt from an Event that was read field by field, and believed only if both ways agree on it. The bytes
around the numbers are compared whole (found by a hash of them), so nothing is taken for what it merely resembles.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tallyboard.logdir import crc
from tallyboard.logdir.crc import Bytes, UInt32
from tallyboard.logdir.outline import Outline, outline
from tallyboard.logdir.scan import FOOTER_BYTES
from tallyboard.wire import Float64, Int64

Words = npt.NDArray[np.uint64]
Int32 = npt.NDArray[np.int32]

LAYOUTS_MAX: Final = 16_384
"""Learnt of one run, at most: some 1,000 tags at four lengths of step, and more. They are forgotten together."""

Teacher = Callable[[bytes], tuple[list[int], list[float]] | None]
"""Reads an Event field by field: ids of its tags and their numbers in order; None unless all of them are scalars."""


class Many(NamedTuple):
    """Scalars of n Events of one outline with k numbers, as decoded.

    rows int64[n]: which of the Events asked about; good bool[n]: whether the checksum is right. steps int64[n],
    wall_times float64[n], values float64[n, k], tags int32[n, k].
    """

    rows: Int64
    good: npt.NDArray[np.bool_]
    steps: Int64
    wall_times: Float64
    values: Float64
    tags: Int32


@dataclass(slots=True)
class _Shape:
    """An outline and the bytes around it, each a layout by its code.

    varying int64[v]: the bytes that may differ; their tables say what they add to the checksum. hashes: sorted, with
    the code of each; words, checksums, tags: by code.
    """

    outline: Outline
    varying: Int64
    tables: UInt32
    weights: Words
    hashes: Words
    codes: Int64
    words: list[Words] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)
    tags: list[list[int]] = field(default_factory=list)


class Layouts:
    """The layouts met in a run so far. teacher: see Teacher."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._shapes: dict[int, list[_Shape]] = {}
        self._count = 0

    def knows(self, size: int) -> bool:
        """Whether there are layouts of Events of this size."""
        return size in self._shapes

    def take(self, rows: Bytes, found: list[Many]) -> Int64:
        """Decode what has a layout; returns the others' indices, ascending. rows uint8[n, size + 4]: data, checksum.

        Of new ones a layout is learnt.
        """
        if self._count >= LAYOUTS_MAX:
            self._shapes.clear()
            self._count = 0
        left = np.arange(len(rows))
        others: list[int] = []
        for shape in self._shapes.get(rows.shape[1] - FOOTER_BYTES, ()):
            left = self._matched(shape, rows, left, found)
        while len(left):
            shape_or_none = self._learnt(rows[left[0], :-FOOTER_BYTES].tobytes())
            if shape_or_none is None:
                others.append(int(left[0]))
                left = left[1:]
                continue
            again = self._matched(shape_or_none, rows, left, found)
            if len(again) and again[0] == left[0]:  # e.g. the checksum is wrong, so it taught nothing
                others.append(int(again[0]))
                again = again[1:]
            left = again
        return np.array(others, np.int64)

    def _learnt(self, event: bytes) -> _Shape | None:
        """A new shape from an Event that has one; None if there is none, or it is known."""
        seen = outline(memoryview(event))
        if seen is None or self._count >= LAYOUTS_MAX:
            return None
        shapes = self._shapes.setdefault(seen.size, [])
        if any(shape.outline == seen for shape in shapes):
            return None
        shape = _shape(seen)
        shapes.append(shape)
        return shape

    def _matched(self, shape: _Shape, rows: Bytes, left: Int64, found: list[Many]) -> Int64:
        """Decode the rows of a shape; returns the indices of the others."""
        if not len(left):
            return left
        picked = rows if len(left) == len(rows) else rows[left]
        words = _words(shape, picked)
        hashes = (words * shape.weights).sum(axis=1, dtype=np.uint64)
        codes = _codes(shape, words, hashes)
        if (codes < 0).any():
            self._learn_codes(shape, picked, words, hashes, codes)
        is_step = _are_steps(shape, picked)
        hit = (codes >= 0) & is_step
        if hit.any():
            whole = bool(hit.all())
            found.append(_decoded(shape, picked if whole else picked[hit], left[hit], codes[hit]))
        return left[~hit]

    def _learn_codes(self, shape: _Shape, rows: Bytes, words: Words, hashes: Words, codes: Int64) -> None:
        """Give the rows without a code one, as far as they have the shape's outline and can be believed."""
        unknown = np.flatnonzero(codes < 0)
        different, first = np.unique(hashes[unknown], return_index=True)
        for place in np.argsort(first).tolist():
            digest, row = different[place], int(unknown[first[place]])
            if self._count >= LAYOUTS_MAX:
                return
            if not self._is_taught(shape, rows[row], words[row], digest):
                continue
            same = unknown[hashes[unknown] == digest]
            codes[same[(words[same] == words[row]).all(axis=1)]] = len(shape.words) - 1

    def _is_taught(self, shape: _Shape, row: Bytes, words: Words, digest: np.uint64) -> bool:
        """Learn the layout of one row, if it is one, and both ways of reading it agree."""
        event = row[:-FOOTER_BYTES].tobytes()
        if crc.masked_crc32c(event) != int.from_bytes(row[-FOOTER_BYTES:].tobytes(), "little"):
            return False
        if outline(memoryview(event)) != shape.outline:
            return False
        taught = self._teacher(event)
        if taught is None or len(taught[0]) != len(shape.outline.numbers):
            return False
        tags, numbers = taught
        again = _numbers(shape, row[None, :])[0]
        if again.tobytes() != np.array(numbers, np.float64).tobytes() and not np.array_equal(
            again, numbers, equal_nan=True
        ):
            return False
        bare = row[:-FOOTER_BYTES].copy()
        bare[shape.varying] = 0
        shape.words.append(words.copy())
        shape.checksums.append(crc.crc32c(bare.data))
        shape.tags.append(tags)
        self._count += 1
        at = int(np.searchsorted(shape.hashes, digest))
        shape.hashes = np.insert(shape.hashes, at, digest)
        shape.codes = np.insert(shape.codes, at, len(shape.words) - 1)
        return True


def _shape(seen: Outline) -> _Shape:
    places = list(range(seen.wall_time_at, seen.wall_time_at + 8))
    places += range(seen.step_at, seen.step_at + seen.step_bytes)
    for number in seen.numbers:
        places += range(number.at, number.at + number.width)
    count = -(-seen.size // 8)
    weights = np.random.default_rng(seen.size).integers(0, 2**64, count, np.uint64) | np.uint64(1)
    tables = crc.tables_for([seen.size - 1 - at for at in places])
    return _Shape(seen, np.array(places, np.int64), tables, weights, np.empty(0, np.uint64), np.empty(0, np.int64))


def _words(shape: _Shape, rows: Bytes) -> Words:
    """The bytes around the numbers, as words: uint64[n, w]; zeros stand for what varies."""
    bare = np.zeros((len(rows), len(shape.weights) * 8), np.uint8)
    bare[:, : shape.outline.size] = rows[:, :-FOOTER_BYTES]
    bare[:, shape.varying] = 0
    return bare.view(np.uint64)


def _codes(shape: _Shape, words: Words, hashes: Words) -> Int64:
    """The code of each row, -1 if it is not known."""
    if not len(shape.hashes):
        return np.full(len(words), -1)
    at = np.minimum(np.searchsorted(shape.hashes, hashes), len(shape.hashes) - 1)
    codes = shape.codes[at]
    same = (np.stack(shape.words)[codes] == words).all(axis=1)
    return np.where(same, codes, -1)


def _are_steps(shape: _Shape, rows: Bytes) -> npt.NDArray[np.bool_]:
    """Whether each row's step is a varint of the outline's length: every byte but the last says that more follows."""
    count = shape.outline.step_bytes
    if not count:
        return np.ones(len(rows), np.bool_)
    more = rows[:, shape.outline.step_at : shape.outline.step_at + count] >= 0x80
    good: npt.NDArray[np.bool_] = more[:, :-1].all(axis=1) & ~more[:, -1]
    return good


def _decoded(shape: _Shape, rows: Bytes, indices: Int64, codes: Int64) -> Many:
    seen = shape.outline
    checksum = np.array(shape.checksums, np.uint32)[codes]
    for table, at in zip(shape.tables, shape.varying.tolist(), strict=True):
        checksum ^= table[rows[:, at]]
    said = np.ascontiguousarray(rows[:, -FOOTER_BYTES:]).view("<u4").reshape(-1)
    steps = np.zeros(len(rows), np.int64)
    for i in range(seen.step_bytes):
        steps |= (rows[:, seen.step_at + i] & np.uint8(0x7F)).astype(np.int64) << (7 * i)
    walls = np.ascontiguousarray(rows[:, seen.wall_time_at : seen.wall_time_at + 8]).view("<f8").reshape(-1)
    tags = np.array(shape.tags, np.int32)[codes]
    return Many(indices, crc.mask(checksum) == said, steps, walls, _numbers(shape, rows), tags)


def _numbers(shape: _Shape, rows: Bytes) -> Float64:
    numbers = shape.outline.numbers
    if len({number.width for number in numbers}) == 1:
        width = numbers[0].width
        places = (np.array([number.at for number in numbers])[:, None] + np.arange(width)).reshape(-1)
        dense = np.ascontiguousarray(rows[:, places])
        return dense.view(f"<f{width}").reshape(len(rows), -1).astype(np.float64)
    columns = [
        np.ascontiguousarray(rows[:, at : at + width]).view(f"<f{width}").reshape(-1).astype(np.float64)
        for at, width in numbers
    ]
    return np.stack(columns, axis=1)
