"""Envelopes as blobs: a chunk's one cell as plain words, its finer cells compressed, by tag and by axis."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Float64, Int64
from tallyboard_server.store.envelope import NOT_RECORDED, NOWHERE, Bool, Cells, Marks
from tallyboard_server.store.sql.codec import expand, squeeze

CELL_ROWS: Final = 128
"""Points in each of the finer cells of a chunk; the last one has what is left."""

_WHOLE: Final = 17
_PLACES: Final = 7
_OF_TAG: Final = 11
_OF_AXIS: Final = 6
"""Words of eight bytes in what each function below packs for one cell."""

Words = npt.NDArray[np.int64]


def pack_whole(cells: Cells) -> list[bytes]:
    """Each cell as a blob of its own, without places of other counters."""
    rows = [word for mark in (cells.first, cells.min, cells.max, cells.last)
            for word in (mark.steps, _bits(mark.wall_times), _bits(mark.values))]  # fmt: skip
    rows += [cells.count, cells.nonfinite, _bits(cells.mean), _bits(cells.wall_max), cells.ordered.astype(np.int64)]
    words = np.ascontiguousarray(np.stack(rows, axis=1), "<i8")
    return [row.tobytes() for row in words]


def unpack_whole(blobs: Sequence[bytes]) -> Cells:
    """The cells that pack_whole packed, one after the other."""
    words = np.ascontiguousarray(np.frombuffer(b"".join(blobs), "<i8").reshape(-1, _WHOLE).T)
    unknown = np.full(words.shape[1], NOT_RECORDED)

    def mark(i: int) -> Marks:
        return Marks(words[i], words[i + 1].view(np.float64), words[i + 2].view(np.float64), unknown)

    return Cells(
        mark(0),
        mark(3),
        mark(6),
        mark(9),
        count=words[12],
        nonfinite=words[13],
        mean=words[14].view(np.float64),
        wall_max=words[15].view(np.float64),
        at_max=unknown,
        ordered=words[16] != 0,
    )


def pack_places(steps: Int64, whole: Cells, at: Mapping[int, Int64]) -> bytes:
    """Where each counter in `at` stood in a chunk's one cell; steps and `at` are those of the chunk."""
    starts = np.zeros(1, np.int64)
    return b"".join(
        np.concatenate([[counter], *places_of(steps, column, starts, whole)]).astype("<i8").tobytes()
        for counter, column in at.items()
    )


def places_of(steps: Int64, column: Int64, starts: Int64, cells: Cells) -> Words:
    """Where a counter stood in m cells of a chunk, by its column of `at`: int64[6, m], as unpack_places has it."""
    ends = np.append(starts[1:], len(steps)) - 1
    fine = np.ones(len(steps), bool)
    fine[1:] = column[:-1] <= column[1:]
    fine[starts] = True
    known = column != NOT_RECORDED
    return np.stack(
        [
            column[starts],
            _at_marks(steps, column, cells.min),
            _at_marks(steps, column, cells.max),
            column[ends],
            np.maximum.reduceat(column, starts),
            np.logical_and.reduceat(fine, starts) & (known[starts] == known[ends]),
        ]
    )


def _at_marks(steps: Int64, column: Int64, marks: Marks) -> Int64:
    """The column where the marks are: a tag has each step once."""
    rows = np.minimum(np.searchsorted(steps, marks.steps), len(steps) - 1)
    return np.where(marks.steps == NOWHERE, NOT_RECORDED, column[rows])


def unpack_places(blobs: Sequence[bytes], counter: int) -> tuple[Words, Bool]:
    """Where a counter stood in each of m cells: first, min, max, last, largest, as int64[5, m]; and bool[m].

    That says whether it is ordered there: recorded throughout, or nowhere, and never decreasing. Cells of chunks
    that know nothing of the counter have NOT_RECORDED, and True.
    """
    lengths = np.fromiter(map(len, blobs), np.int64, len(blobs)) // (8 * _PLACES)
    words = np.frombuffer(b"".join(blobs), "<i8").reshape(-1, _PLACES)
    owners = np.repeat(np.arange(len(blobs)), lengths)
    mine = words[:, 0] == counter
    found = np.full((5, len(blobs)), NOT_RECORDED)
    ordered = np.ones(len(blobs), bool)
    found[:, owners[mine]] = words[mine, 1:6].T
    ordered[owners[mine]] = words[mine, 6] != 0
    return found, ordered


def pack_axis_cells(cells: Cells) -> bytes:
    """What the cells of all tags of an axis have in common."""
    first = _bits(cells.first.wall_times)
    return squeeze(
        np.stack(
            [
                np.diff(cells.first.steps, prepend=0),
                cells.last.steps - cells.first.steps,
                np.diff(first, prepend=0),
                _bits(cells.last.wall_times) - first,
                _bits(cells.wall_max) - first,
                cells.ordered.astype(np.int64),
            ]
        )
    )


def unpack_axis_cells(blob: bytes, n: int) -> Words:
    """For cells_of, as packed."""
    return expand(blob, _OF_AXIS * cells_in(n)).view(np.int64).reshape(_OF_AXIS, -1)


def pack_value_cells(cells: Cells) -> bytes:
    """What belongs to one tag of its cells."""
    first = _bits(cells.first.wall_times)
    return squeeze(
        np.stack(
            [
                cells.min.steps - cells.first.steps,
                cells.max.steps - cells.first.steps,
                _bits(cells.min.wall_times) - first,
                _bits(cells.max.wall_times) - first,
                cells.nonfinite,
                _bits(cells.first.values),
                _bits(cells.min.values),
                _bits(cells.max.values),
                _bits(cells.last.values),
                _bits(cells.mean),
                cells.count,
            ]
        )
    )


def unpack_value_cells(blob: bytes, n: int) -> Words:
    """For cells_of, as packed."""
    return expand(blob, _OF_TAG * cells_in(n)).view(np.int64).reshape(_OF_TAG, -1)


def cells_in(n: int) -> int:
    """How many of the finer cells a chunk of n points has."""
    return -(-n // CELL_ROWS)


def cells_of(axes: Sequence[Words], tags: Iterable[Words]) -> Cells:
    """Cells of chunks that follow each other, from what their axes and a tag know of them."""
    axis, tag = np.concatenate(axes, axis=1), np.concatenate(list(tags), axis=1)
    lengths = [part.shape[1] for part in axes]
    first, wall = _summed(axis[0], lengths), _summed(axis[2], lengths)
    unknown = np.full(axis.shape[1], NOT_RECORDED)
    return Cells(
        first=Marks(first, _floats(wall), _floats(tag[5]), unknown),
        min=Marks(tag[0] + first, _floats(tag[2] + wall), _floats(tag[6]), unknown),
        max=Marks(tag[1] + first, _floats(tag[3] + wall), _floats(tag[7]), unknown),
        last=Marks(axis[1] + first, _floats(axis[3] + wall), _floats(tag[8]), unknown),
        count=tag[10],
        nonfinite=tag[4],
        mean=_floats(tag[9]),
        wall_max=_floats(axis[4] + wall),
        at_max=unknown,
        ordered=axis[5] != 0,
    )


def with_places(cells: Cells, places: Words, ordered: Bool) -> Cells:
    """The same cells, knowing where another counter stood; see unpack_places."""
    none = cells.min.steps == NOWHERE
    return replace(
        cells,
        first=replace(cells.first, at=places[0]),
        min=replace(cells.min, at=np.where(none, NOT_RECORDED, places[1])),
        max=replace(cells.max, at=np.where(none, NOT_RECORDED, places[2])),
        last=replace(cells.last, at=places[3]),
        at_max=places[4],
        ordered=cells.ordered & ordered,
    )


def _summed(differences: Words, lengths: Sequence[int]) -> Words:
    """Undo np.diff of each part by itself, all at once; differences wrap, and so do their sums."""
    sums = np.cumsum(differences)
    ends = np.cumsum(lengths)
    before: Words = np.concatenate([np.zeros(1, np.int64), sums[ends[:-1] - 1]])
    return np.asarray(sums - np.repeat(before, lengths), np.int64)


def _bits(column: Float64) -> Int64:
    return np.ascontiguousarray(column).view(np.int64)


def _floats(bits: Words) -> Float64:
    return np.ascontiguousarray(bits).view(np.float64)
