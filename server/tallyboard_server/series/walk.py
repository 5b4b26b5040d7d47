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
from tallyboard_server.store.envelope import NOT_RECORDED, NOWHERE, Cells

_POINTS_AT_ONCE: Final = 65_536
_GAP_MAX: Final = 16_384
"""Points that are read although they are not wanted, rather than reading once more behind them."""

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
        least, greatest = self._of_marks(cells, source_min, source_max, before, after)
        places = begins[starts], least, greatest, after[ends]
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
                points = self._finer(int(cells.first.steps[run.start]), int(cells.last.steps[run.stop - 1]), 1)
                starts = np.searchsorted(points.first.steps, cells.first.steps[run])
                largest[run] = np.maximum.reduceat(self._largest(points), starts)
        return largest

    def _points(self, cells: Cells, cell: int, carry: Along) -> tuple[Int64, Along]:
        """The steps of a cell's n points, and the largest place before them and at each of them, [n + 1]."""
        return self._points_of(cells, slice(cell, cell + 1), carry)

    def _points_of(self, cells: Cells, run: slice, carry: Along) -> tuple[Int64, Along]:
        """As `_points`, of neighbouring cells."""
        points = self._finer(int(cells.first.steps[run.start]), int(cells.last.steps[run.stop - 1]), 1)
        return points.first.steps, np.maximum.accumulate(np.concatenate([carry, self._largest(points)]))

    def _of_marks(
        self, cells: Cells, source_min: Int64, source_max: Int64, before: Along, after: Along
    ) -> tuple[Along, Along]:
        """Where the least and the greatest point of each bucket are.

        The sources say which cells they come from, -1 if there is no such point. before, after: the largest place
        until each cell begins and ends.
        """
        source = np.concatenate([source_min, source_max])
        low, high = cells.min.take(np.maximum(source_min, 0)), cells.max.take(np.maximum(source_max, 0))
        steps = np.concatenate([low.steps, high.steps])
        absent = (source < 0) | (steps == NOWHERE)
        own = self.axis.places(np.concatenate([low.wall_times, high.wall_times]), np.concatenate([low.at, high.at]))
        found: Along = np.maximum(before[source], own)
        if absent.any():
            found = np.where(absent, self.axis.nothing, found)
        # Nothing in the cell is further than its end: what is there already need not be looked for.
        unsure = ~cells.ordered[source] & ~absent & (found < after[source])
        if unsure.any():
            wanted = np.zeros(len(cells), bool)
            wanted[source[unsure]] = True
            for run in _runs(wanted, cells.count):
                points, reached = self._points_of(cells, run, before[run.start : run.start + 1])
                inside = unsure & (source >= run.start) & (source < run.stop)
                found[inside] = reached[np.searchsorted(points, steps[inside]) + 1]
        return found[: len(source_min)], found[len(source_min) :]


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


def _runs(chosen: envelope.Bool, count: Int64) -> Iterator[slice]:
    """Runs of neighbours that hold the chosen cells, of not much more than _POINTS_AT_ONCE points each.

    What lies between chosen cells is in them unless it is long, so few runs are enough however the cells lie.
    """
    indices = np.flatnonzero(chosen)
    ends = np.cumsum(count)
    begins = ends - count
    filled = begins[indices] // _POINTS_AT_ONCE
    apart = (begins[indices[1:]] - ends[indices[:-1]] > _GAP_MAX) | (np.diff(filled) > 0)
    for run in np.split(indices, np.flatnonzero(apart) + 1):
        yield slice(int(run[0]), int(run[-1]) + 1)
