"""Along an axis on which nothing goes back: the largest place so far, from cells, finer only where needed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from tallyboard.wire import Int64
from tallyboard_server.series.axis import Axis
from tallyboard_server.series.buckets import bucket_starts
from tallyboard_server.series.question import Along, Places
from tallyboard_server.store import envelope
from tallyboard_server.store.envelope import NOT_RECORDED, NOWHERE, Cells, Marks

_ANY_ROWS: Final = 2**62
_POINTS_AT_ONCE: Final = 65_536

Finer = Callable[[int, int, int], Cells]
"""Reads a tag between two steps (both included) in cells of at most so many points."""


class Walk:
    """One tag's way along an axis. by_time: whether some place was found by time, as it was not recorded."""

    def __init__(self, axis: Axis, finer: Finer) -> None:
        self.axis = axis
        self.by_time = False
        self._finer = finer
        self._carry = axis.nothing
        self._origin: float | None = None

    def pass_over(self, cells: Cells) -> None:
        """Go over what lies before the range that is shown."""
        if len(cells):
            self._begin(cells)
            self._carry = np.maximum(self._carry, self._largest(cells).max())

    def cut(self, cells: Cells, first: float | None, last: float | None) -> tuple[int, int]:
        """The steps between which first ≤ x ≤ last, (0, -1) if none.

        cells: all that follows what was gone over, as coarse as they come.
        """
        if not len(cells):
            return 0, -1
        self._begin(cells)
        largest = np.maximum.accumulate(np.concatenate([self._carry, self._largest(cells)]))
        before, after = largest[:-1], largest[1:]
        begins = np.maximum(before, self.axis.places(cells.first.wall_times, cells.first.at))
        low, high = int(cells.first.steps[0]), int(cells.last.steps[-1])
        if last is not None:
            bound = self.axis.bound(last, up=False)
            cell = int(np.searchsorted(self._shown(begins), bound, side="right")) - 1
            if cell < 0:
                return 0, -1
            high = int(cells.last.steps[cell])
            if self._shown(after[cell : cell + 1])[0] > bound:
                steps, places = self._points(cells, cell, before[cell : cell + 1])
                high = int(steps[np.searchsorted(self._shown(places[1:]), bound, side="right") - 1])
        if first is not None:
            bound = self.axis.bound(first, up=True)
            cell = int(np.searchsorted(self._shown(after), bound, side="left"))
            if cell == len(cells):
                return 0, -1
            # What lies before it need not be carried along: the first point in the range is further than all of that.
            low = int(cells.first.steps[cell])
            if self._shown(begins[cell : cell + 1])[0] < bound:
                steps, places = self._points(cells, cell, before[cell : cell + 1])
                low = int(steps[np.searchsorted(self._shown(places[1:]), bound, side="left")])
        return (low, high) if low <= high else (0, -1)

    def along(self, cells: Cells, buckets: int | None) -> tuple[Cells, Places]:
        """The cells that follow, and where they are on the axis; None: each is one point, else put into buckets."""
        if not len(cells):
            return cells, Places(*(self.axis.nothing[:0],) * 4)
        self._begin(cells)
        largest = np.maximum.accumulate(np.concatenate([self._carry, self._largest(cells)]))
        before, after = largest[:-1], largest[1:]
        if buckets is None:
            shown = self._shown(after)
            return cells, Places(shown, shown, shown, shown)
        begins = np.maximum(before, self.axis.places(cells.first.wall_times, cells.first.at))
        starts = bucket_starts(begins, after[-1], buckets)
        found, source_min, source_max = _grouped_with_sources(cells, starts)
        ends = np.append(starts[1:], len(cells)) - 1
        places = (
            begins[starts],
            self._of_marks(cells, cells.min, source_min, before),
            self._of_marks(cells, cells.max, source_max, before),
            after[ends],
        )
        return found, Places(*(self._shown(part) for part in places))

    def _begin(self, cells: Cells) -> None:
        if self._origin is None:
            self._origin = float(cells.first.wall_times[0])

    def _shown(self, places: Along) -> Along:
        return self.axis.shown(places, self._origin or 0.0)

    def _largest(self, cells: Cells) -> Along:
        """The largest place of each cell's own points."""
        if self.axis.other is None:
            return cells.wall_max
        largest = self.axis.places(cells.wall_max, cells.at_max)
        self.by_time = self.by_time or bool((cells.at_max == NOT_RECORDED).any())
        # Recorded of some points only, or of all but going back: `at` and time can't be told apart in the cell.
        unknown = ~cells.ordered & (cells.at_max != NOT_RECORDED)
        if unknown.any():
            largest = largest.copy()
            for run in _runs(unknown, cells.count):
                points = self._finer(int(cells.first.steps[run[0]]), int(cells.last.steps[run[-1]]), 1)
                starts = np.searchsorted(points.first.steps, cells.first.steps[run])
                largest[run] = np.maximum.reduceat(self._largest(points), starts)
        return largest

    def _points(self, cells: Cells, cell: int, carry: Along) -> tuple[Int64, Along]:
        """The steps of a cell's n points, and the largest place before them and at each of them, [n + 1]."""
        points = self._finer(int(cells.first.steps[cell]), int(cells.last.steps[cell]), 1)
        return points.first.steps, np.maximum.accumulate(np.concatenate([carry, self._largest(points)]))

    def _of_marks(self, cells: Cells, marks: Marks, source: Int64, before: Along) -> Along:
        """Where a mark of each bucket is: source says which cell it comes from, -1 if there is no such mark."""
        chosen = marks.take(np.maximum(source, 0))
        found: Along = np.maximum(before[source], self.axis.places(chosen.wall_times, chosen.at))
        absent = (source < 0) | (chosen.steps == NOWHERE)
        if absent.any():
            found = np.where(absent, self.axis.nothing, found)
        for bucket in np.flatnonzero(~cells.ordered[source] & ~absent).tolist():
            cell = int(source[bucket])
            part = self._finer(int(cells.first.steps[cell]), int(chosen.steps[bucket]), _ANY_ROWS)
            found[bucket] = max(before[cell], self._largest(part).max())
        return found


def buckets_along_steps(cells: Cells, buckets: int) -> Cells:
    """Cells put into at most so many buckets of equal width in steps."""
    starts = bucket_starts(cells.first.steps, int(cells.last.steps[-1]), buckets)
    return cells if len(starts) == len(cells) else envelope.grouped(cells, starts)


def _grouped_with_sources(cells: Cells, starts: Int64) -> tuple[Cells, Int64, Int64]:
    """Cells in groups, and for the least and greatest point of each the cell that it comes from (-1: none)."""
    index = np.arange(len(cells))
    if len(starts) == len(cells):
        return cells, index, index
    numbered = replace(
        cells,
        min=replace(cells.min, at=np.where(cells.min.steps == NOWHERE, -1, index)),
        max=replace(cells.max, at=np.where(cells.max.steps == NOWHERE, -1, index)),
    )
    found = envelope.grouped(numbered, starts)
    return found, found.min.at, found.max.at


def _runs(chosen: envelope.Bool, count: Int64) -> Iterator[Int64]:
    """The chosen cells in runs of neighbours, of not much more than _POINTS_AT_ONCE points each."""
    indices = np.flatnonzero(chosen)
    filled = np.cumsum(count[indices]) // _POINTS_AT_ONCE
    apart = (np.diff(indices) > 1) | (np.diff(filled) > 0)
    yield from np.split(indices, np.flatnonzero(apart) + 1)
