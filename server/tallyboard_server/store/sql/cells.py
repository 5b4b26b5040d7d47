"""An attempt's points as cells: whole chunks where they may be so coarse, else finer cells, and points where cut.

Per tag, chunks ascend by step and never overlap, and what is not merged yet comes after all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import Block
from tallyboard_server.store.envelope import NOT_RECORDED, Bool, Cells, joined, of_columns
from tallyboard_server.store.merge import ROWS_PER_CHUNK, merge_blocks, places
from tallyboard_server.store.sql import envelopes, journal
from tallyboard_server.store.sql.blocks import groups_without_envelopes, read_old_columns
from tallyboard_server.store.sql.codec import decompress_floats, decompress_ints, unpack_ids
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.journal import Place

_AXES_KEPT: Final = 256
"""Decoded axes that are kept for the next tag: some 50 MiB."""
_ALL_ROWS: Final = 1 << 62

_OF_TAG: Final = "run_id = ? AND tag_id = ? AND counter_id = ? AND attempt = ? "
_FROM: Final = (
    "first_step >= coalesce((SELECT first_step FROM envelopes "  # noqa: S608 - constants
    f"WHERE {_OF_TAG} AND first_step <= ? ORDER BY first_step DESC LIMIT 1), 0) AND first_step <= ? "
)
"""From the one chunk that begins below the range and may reach into it, to the last that begins in it."""


@dataclass(slots=True, frozen=True)
class Range:
    """Steps, both ends included."""

    first: int
    last: int

    def holds(self, first: Int64, last: Int64) -> Bool:
        """Which of these stretches lie in it whole."""
        return (first >= self.first) & (last <= self.last)

    def meets(self, first: Int64, last: Int64) -> Bool:
        """Which of these stretches have a part in it."""
        return (last >= self.first) & (first <= self.last)


def read_cells(
    connection: Connection,
    place: Place,
    tag_ids: Sequence[int],
    steps: Range,
    rows_max: int,
    at: int | None,
) -> dict[int, Cells]:
    """See Snapshot.cells."""
    reader = _Reader(connection, place, steps, rows_max, at)
    parts = reader.chunks(tag_ids)
    if old := groups_without_envelopes(connection, place, steps.first, steps.last):
        for tag_id, found in parts.items():
            for group in old:
                blocks = read_old_columns(connection, group, tag_id, steps.first, steps.last)
                found.extend(reader.of_blocks(blocks).values())
            if found:
                mixed = joined(found)
                parts[tag_id] = [mixed.take(np.argsort(mixed.first.steps, kind="stable"))]
    fresh = journal.read_columns(connection, place, parts.keys(), steps.first, steps.last)
    for tag_id, cells in reader.of_blocks(fresh).items():
        parts[tag_id].append(cells)
    return {tag_id: joined(found) for tag_id, found in parts.items() if found}


def count_points(connection: Connection, place: Place, tag_ids: Sequence[int], steps: Range) -> dict[int, int]:
    """See Snapshot.points_at_most."""
    run_id, counter_id, attempt = place
    found = journal.count_points(connection, place, set(tag_ids), steps.first, steps.last)
    old = groups_without_envelopes(connection, place, steps.first, steps.last)
    keys = [(run_id, tag_id, counter_id, attempt) for tag_id in tag_ids]
    sums = connection.several(
        f"SELECT CAST(sum(n) AS BIGINT) FROM envelopes WHERE {_OF_TAG} AND {_FROM}",  # noqa: S608 - constants
        ((*key, *key, steps.first, steps.last) for key in keys),
    )
    for tag_id, [(n,)] in zip(tag_ids, sums, strict=True):
        total = found.get(tag_id, 0) + (n if isinstance(n, int) else 0)
        for group in old:
            n = connection.execute(
                "SELECT CAST(sum(n) AS BIGINT) FROM axes AS a "
                "WHERE run_id = ? AND counter_id = ? AND attempt = ? AND batch = ? "
                "AND first_step <= ? AND last_step >= ? AND EXISTS (SELECT 1 FROM value_columns AS c "
                "WHERE c.run_id = a.run_id AND c.tag_id = ? AND c.counter_id = a.counter_id "
                "AND c.attempt = a.attempt AND c.axis_id = a.id)",
                (*place, group.batch, steps.last, steps.first, tag_id),
            ).get
            total += n if isinstance(n, int) else 0
        if total:
            found[tag_id] = total
    return found


@dataclass(slots=True, frozen=True)
class _Axis:
    """Decoded: steps, wall times, and where the counter that was asked for stood, if it is known at all."""

    steps: Int64
    wall_times: Float64
    at: Int64 | None


@dataclass(slots=True)
class _Reader:
    """Reads one attempt's cells, tag by tag; what tags share is decoded once."""

    connection: Connection
    place: Place
    steps: Range
    rows_max: int
    at: int | None
    _axes: dict[int, _Axis] = field(default_factory=dict)
    _axis_cells: dict[int, envelopes.Words] = field(default_factory=dict)

    def of_blocks(self, blocks: Sequence[Block]) -> dict[int, Cells]:
        """Cells of blocks, in any order, that hold whatever there is of their tags in a stretch of history."""
        found: dict[int, Cells] = {}
        size = max(1, min(self.rows_max, ROWS_PER_CHUNK))
        for whole in merge_blocks(blocks, _ALL_ROWS):
            block = whole.between(self.steps.first, self.steps.last)
            if len(block.steps):
                at = None if self.at is None else places(block, self.at)
                columns = np.ascontiguousarray(block.values.T)
                cells = of_columns(block.steps, block.wall_times, columns, size, at)
                found.update(zip(block.tag_ids.tolist(), cells, strict=True))
        return found

    def chunks(self, tag_ids: Sequence[int]) -> dict[int, list[Cells]]:
        """What merges wrote of each tag, in the range, in order."""
        keys = map(self._key, tag_ids)
        found = self.connection.several(
            "SELECT axis_id, n, cell" + (", at_cells" if self.at is not None else "") + " FROM envelopes "  # noqa: S608
            f"WHERE {_OF_TAG} AND {_FROM} ORDER BY first_step",
            ((*key, *key, self.steps.first, self.steps.last) for key in keys),
        )
        return {tag_id: self._chunks(tag_id, rows) for tag_id, rows in zip(tag_ids, found, strict=True)}

    def _chunks(self, tag_id: int, rows: list[Any]) -> list[Cells]:
        if not rows:
            return []
        ids, counts, cells = (list(column) for column in list(zip(*rows, strict=True))[:3])
        whole = envelopes.unpack_whole(cells)
        if self.at is not None:
            at_cells: list[Any] = [row[3] for row in rows]
            whole = envelopes.with_places(whole, *envelopes.unpack_places(at_cells, self.at))
        coarse = self.steps.holds(whole.first.steps, whole.last.steps) & (whole.count <= self.rows_max)
        if coarse.all():
            return [whole]
        met = self.steps.meets(whole.first.steps, whole.last.steps)
        found: list[Cells] = []
        for begin, end in _stretches(coarse):
            if coarse[begin]:
                found.append(whole.take(slice(begin, end)))
                continue
            chunks = [(ids[i], counts[i]) for i in range(begin, end) if met[i]]
            if chunks:
                found += self._finer(tag_id, chunks, whole.take(slice(begin, end)).take(met[begin:end]))
        return found

    def _finer(self, tag_id: int, chunks: list[tuple[int, int]], whole: Cells) -> list[Cells]:
        """Chunks that follow each other, in cells finer than whole chunks."""
        if self.rows_max < envelopes.CELL_ROWS:
            return [cells for chunk in chunks if (cells := self._points(tag_id, *chunk, 0, chunk[1])) is not None]
        found: list[Cells] = []
        for begin, end in _stretches(np.array([n > envelopes.CELL_ROWS for _, n in chunks])):
            part = chunks[begin:end]
            if part[0][1] > envelopes.CELL_ROWS:
                found += self._cells(tag_id, part, whole.take(slice(begin, end)))
            else:
                found += [cells for chunk in part if (cells := self._points(tag_id, *chunk, 0, chunk[1])) is not None]
        return found

    def _cells(self, tag_id: int, chunks: list[tuple[int, int]], whole: Cells) -> list[Cells]:
        """Chunks that follow each other, as the finer cells kept of them; those that the range cuts are read."""
        low, high = int(whole.first.steps[0]), int(whole.first.steps[-1])
        blobs: dict[int, bytes] = {
            int(axis_id): blob
            for axis_id, blob in self.connection.execute(
                "SELECT e.axis_id, c.cells FROM envelopes AS e CROSS JOIN value_cells AS c ON c.run_id = e.run_id "
                "AND c.tag_id = e.tag_id AND c.counter_id = e.counter_id AND c.attempt = e.attempt "
                "AND c.axis_id = e.axis_id WHERE e.run_id = ? AND e.tag_id = ? AND e.counter_id = ? "
                "AND e.attempt = ? AND e.first_step BETWEEN ? AND ?",
                (*self._key(tag_id), low, high),
            )
        }
        axes = self._cells_of_axes(chunks)
        cells = envelopes.cells_of(axes, (envelopes.unpack_value_cells(blobs[i], n) for i, n in chunks))
        if self.at is not None:
            cells = self._with_places(chunks, whole, cells)
        inside = self.steps.holds(cells.first.steps, cells.last.steps)
        if inside.all():
            return [cells]
        owners = np.repeat(np.arange(len(chunks)), [envelopes.cells_in(n) for _, n in chunks])
        found: list[Cells | None] = []
        cut = np.flatnonzero(~inside & self.steps.meets(cells.first.steps, cells.last.steps))
        for index in cut.tolist():  # at most one at each end of the range
            number = int(owners[index])
            first = (index - int(np.searchsorted(owners, number))) * envelopes.CELL_ROWS
            part = self._points(tag_id, *chunks[number], first, first + envelopes.CELL_ROWS)
            found.append(part)
        kept = cells.take(inside)
        parts = [kept if len(kept) else None, *found]
        return sorted((part for part in parts if part is not None), key=lambda part: int(part.first.steps[0]))

    def _with_places(self, chunks: list[tuple[int, int]], whole: Cells, cells: Cells) -> Cells:
        """Finer cells that know where the other counter stood: the axis is read only where it moved."""
        found: list[envelopes.Words] = []
        begin = 0
        for index, (axis_id, n) in enumerate(chunks):
            m = envelopes.cells_in(n)
            if whole.ordered[index] and whole.first.at[index] == whole.at_max[index]:
                part = np.full((6, m), whole.at_max[index])
                part[5] = 1
            else:
                axis = self._axis(axis_id, n)
                column = np.full(n, NOT_RECORDED) if axis.at is None else axis.at
                starts = np.arange(0, n, envelopes.CELL_ROWS)
                part = envelopes.places_of(axis.steps, column, starts, cells.take(slice(begin, begin + m)))
            found.append(part)
            begin += m
        places = np.hstack(found)
        return envelopes.with_places(cells, places[:5], places[5] != 0)

    def _points(self, tag_id: int, axis_id: int, n: int, begin: int, end: int) -> Cells | None:
        """Rows begin ≤ i < end of a chunk, as far as they lie in the range; None if none do."""
        axis = self._axis(axis_id, n)
        begin = max(begin, int(np.searchsorted(axis.steps, self.steps.first, side="left")))
        end = min(end, int(np.searchsorted(axis.steps, self.steps.last, side="right")))
        if begin >= end:
            return None
        blob = self.connection.execute(
            f"SELECT vals FROM value_columns WHERE {_OF_TAG} AND axis_id = ?",  # noqa: S608 - a constant
            (*self._key(tag_id), axis_id),
        ).get
        values = decompress_floats(bytes(blob), n)[begin:end]
        at = None if axis.at is None else axis.at[begin:end]
        size = max(1, min(self.rows_max, envelopes.CELL_ROWS))
        return of_columns(axis.steps[begin:end], axis.wall_times[begin:end], values[None, :], size, at)[0]

    def _axis(self, axis_id: int, n: int) -> _Axis:
        if (known := self._axes.get(axis_id)) is None:
            row = self.connection.execute(
                "SELECT steps, wall_times, at_counters, at_values FROM axes "
                "WHERE run_id = ? AND counter_id = ? AND attempt = ? AND id = ?",
                (*self.place, axis_id),
            ).fetchone()
            if row is None:  # cannot be within one read transaction
                raise LookupError(f"axis {axis_id} is missing")
            at = None
            counters = unpack_ids(row[2]).tolist()
            if self.at in counters:
                at = decompress_ints(row[3], n * len(counters)).reshape(len(counters), n)[counters.index(self.at)]
            if len(self._axes) >= _AXES_KEPT:
                self._axes.clear()
            known = self._axes[axis_id] = _Axis(decompress_ints(row[0], n), decompress_floats(row[1], n), at)
        return known

    def _cells_of_axes(self, chunks: list[tuple[int, int]]) -> list[envelopes.Words]:
        missing = [chunk for chunk in chunks if chunk[0] not in self._axis_cells]
        found = self.connection.several(
            "SELECT cells FROM axis_cells WHERE run_id = ? AND counter_id = ? AND attempt = ? AND axis_id = ?",
            ((*self.place, axis_id) for axis_id, _ in missing),
        )
        for (axis_id, n), [(blob,)] in zip(missing, found, strict=True):
            self._axis_cells[axis_id] = envelopes.unpack_axis_cells(blob, n)
        return [self._axis_cells[axis_id] for axis_id, _ in chunks]

    def _key(self, tag_id: int) -> tuple[int, int, int, int]:
        run_id, counter_id, attempt = self.place
        return run_id, tag_id, counter_id, attempt


def _stretches(same: Bool) -> list[tuple[int, int]]:
    """Where neighbours are the same: [begin, end) of each stretch."""
    borders = np.flatnonzero(same[1:] != same[:-1]) + 1
    return list(zip([0, *borders.tolist()], [*borders.tolist(), len(same)], strict=True))
