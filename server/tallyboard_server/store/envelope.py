"""Envelopes: what a chart has to know of many consecutive points, as columns of cells."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Float64, Int64

NOWHERE: Final = -1
"""The step of a point that does not exist: a cell without finite values has no least one."""

NOT_RECORDED: Final = -1
"""In a column of `at`: the report did not say where that counter stood (steps are never negative)."""

Bool = npt.NDArray[np.bool_]


@dataclass(slots=True, frozen=True)
class Marks:
    """One point of each of m cells: steps int64[m], wall_times float64[m], values float64[m], at int64[m].

    at: where the counter that was asked for stood; NOT_RECORDED where it is not known, or none was asked for.
    """

    steps: Int64
    wall_times: Float64
    values: Float64
    at: Int64

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, cells: Int64 | Bool | slice) -> "Marks":
        """Those of some cells."""
        return Marks(self.steps[cells], self.wall_times[cells], self.values[cells], self.at[cells])

    def absent(self, cells: Bool) -> "Marks":
        """The same, but that there are none in these cells."""
        return Marks(
            np.where(cells, NOWHERE, self.steps),
            np.where(cells, np.nan, self.wall_times),
            np.where(cells, np.nan, self.values),
            np.where(cells, NOT_RECORDED, self.at),
        )


@dataclass(slots=True, frozen=True)
class Cells:
    """Consecutive points of one tag in one attempt, ascending by step, in m cells.

    first, min, max, last: a point of each; min and max over finite values, the first of equals, absent (step NOWHERE,
    NaN) if there are none. count, nonfinite int64[m]: points, and how many of them are NaN or ±Inf. mean float64[m]:
    of the finite values; NaN if none. wall_max float64[m], at_max int64[m]: the largest in the cell. ordered bool[m]:
    within it wall times don't decrease, and `at` neither, being recorded throughout or nowhere; so the largest so far
    is, at each of the four points, the point's own.
    """

    first: Marks
    min: Marks
    max: Marks
    last: Marks
    count: Int64
    nonfinite: Int64
    mean: Float64
    wall_max: Float64
    at_max: Int64
    ordered: Bool

    def __len__(self) -> int:
        return len(self.count)

    def take(self, cells: Int64 | Bool | slice) -> "Cells":
        """Some of them."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            part = getattr(self, field.name)
            parts[field.name] = part.take(cells) if isinstance(part, Marks) else part[cells]
        return Cells(**parts)


def of_points(steps: Int64, wall_times: Float64, values: Float64, at: Int64 | None = None) -> Cells:
    """Each point as a cell of its own; all int64[n] or float64[n]."""
    n = len(steps)
    marks = Marks(steps, wall_times, values, np.full(n, NOT_RECORDED) if at is None else at)
    odd = ~np.isfinite(values)
    finite = marks.absent(odd) if odd.any() else marks
    return Cells(
        first=marks,
        min=finite,
        max=finite,
        last=marks,
        count=np.ones(n, np.int64),
        nonfinite=odd.astype(np.int64),
        mean=finite.values,
        wall_max=wall_times,
        at_max=marks.at,
        ordered=np.ones(n, bool),
    )


def of_columns(steps: Int64, wall_times: Float64, columns: Float64, size: int, at: Int64 | None = None) -> list[Cells]:
    """Cells of `size` points each (the last one: what is left) of k tags that have points in the same n rows.

    columns float64[k, n]: a row for each tag; one Cells comes back for each. mean to rounding, and never beyond
    min and max.
    """
    n = len(steps)
    if size == 1 or not n:
        return [of_points(steps, wall_times, column, at) for column in columns]
    size = min(size, n)
    starts = np.arange(0, n, size)
    ends = np.minimum(starts + size, n) - 1
    places = np.full(n, NOT_RECORDED) if at is None else at
    axis = Marks(steps, wall_times, columns[0] if len(columns) else wall_times, places)
    wall_max = np.maximum.reduceat(wall_times, starts)
    at_max = np.maximum.reduceat(places, starts)
    ordered = _ordered_within(axis, starts)
    count = ends - starts + 1
    least, greatest, finite, mean = _extremes(columns, starts, size)
    found = []
    for row, column in enumerate(columns):
        points = Marks(steps, wall_times, column, places)
        none = finite[row] == 0
        low, high = points.take(least[row]), points.take(greatest[row])
        if none.any():
            low, high = low.absent(none), high.absent(none)
        found.append(
            Cells(
                first=points.take(starts),
                min=low,
                max=high,
                last=points.take(ends),
                count=count,
                nonfinite=count - finite[row],
                mean=np.where(none, np.nan, np.clip(mean[row], low.values, high.values)),
                wall_max=wall_max,
                at_max=at_max,
                ordered=ordered,
            )
        )
    return found


def _extremes(columns: Float64, starts: Int64, size: int) -> tuple[Int64, Int64, Int64, Float64]:
    """Of each tag's cells: rows of the first least and greatest, how many are finite, and their mean; all [k, m]."""
    k, n = columns.shape
    if missing := len(starts) * size - n:
        columns = np.concatenate([columns, np.full((k, missing), np.nan)], axis=1)
    grid = columns.reshape(k, len(starts), size)
    odd = ~np.isfinite(grid)
    if odd.any():
        finite = size - np.count_nonzero(odd, axis=2)
        least, greatest = np.where(odd, np.inf, grid).argmin(axis=2), np.where(odd, -np.inf, grid).argmax(axis=2)
        grid = np.where(odd, 0.0, grid)
    else:
        finite = np.full(grid.shape[:2], size)
        least, greatest = grid.argmin(axis=2), grid.argmax(axis=2)
    divisor = np.maximum(finite, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = grid.sum(axis=2) / divisor
        if not np.isfinite(mean).all():  # the sum of huge values overflows, the mean never does
            mean = np.where(np.isfinite(mean), mean, (grid / divisor[:, :, None]).sum(axis=2))
    return least + starts, greatest + starts, finite, mean


def _ordered_within(points: Marks, starts: Int64) -> Bool:
    """Whether wall times and places don't decrease from point to point of a cell, places being known of all or none."""
    fine = np.ones(len(points), bool)
    walls, places = points.wall_times, points.at
    known = places != NOT_RECORDED
    fine[1:] = (walls[:-1] <= walls[1:]) & (places[:-1] <= places[1:]) & (known[:-1] == known[1:])
    fine[starts] = True
    return np.logical_and.reduceat(fine, starts)


def grouped(cells: Cells, starts: Int64) -> Cells:
    """Coarser cells: each of those from one start to the next; starts ascend from 0 and are below len(cells).

    min, max, count exact; mean to rounding.
    """
    if not len(starts):
        return cells.take(slice(0, 0))
    group = np.zeros(len(cells), np.int64)
    group[starts[1:]] = 1
    group = np.cumsum(group)
    ends = np.append(starts[1:], len(cells)) - 1
    finite = cells.count - cells.nonfinite
    total = np.add.reduceat(finite, starts)
    with np.errstate(invalid="ignore"):
        share = np.where(finite > 0, cells.mean * (finite / np.maximum(total, 1)[group]), 0.0)
    low = _least(cells.min, cells.min.values, group, starts)
    high = _least(cells.max, -cells.max.values, group, starts)
    return Cells(
        first=cells.first.take(starts),
        min=low,
        max=high,
        last=cells.last.take(ends),
        count=np.add.reduceat(cells.count, starts),
        nonfinite=np.add.reduceat(cells.nonfinite, starts),
        mean=np.where(total > 0, np.clip(np.add.reduceat(share, starts), low.values, high.values), np.nan),
        wall_max=np.maximum.reduceat(cells.wall_max, starts),
        at_max=np.maximum.reduceat(cells.at_max, starts),
        ordered=np.logical_and.reduceat(cells.ordered, starts) & _ordered_between(cells, starts),
    )


def joined(parts: Sequence[Cells]) -> Cells:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        empty = np.empty(0)
        return of_points(np.empty(0, np.int64), empty, empty)
    found: dict[str, Any] = {}
    for field in fields(Cells):
        columns = [getattr(part, field.name) for part in parts]
        found[field.name] = _joined_marks(columns) if isinstance(columns[0], Marks) else np.concatenate(columns)
    return Cells(**found)


def _joined_marks(parts: Sequence[Marks]) -> Marks:
    return Marks(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Marks)))


def _least(marks: Marks, keys: Float64, group: Int64, starts: Int64) -> Marks:
    """In each group the first of those with the least key; absent where all are."""
    known = np.where(np.isnan(keys), np.inf, keys)
    least = np.minimum.reduceat(known, starts)
    index = np.where(known == least[group], np.arange(len(known)), len(known))
    found = marks.take(np.minimum.reduceat(index, starts))
    return found.absent(~np.isfinite(least))


def _ordered_between(cells: Cells, starts: Int64) -> Bool:
    """Whether neighbours in a group are in order, too."""
    fine = np.ones(len(cells), bool)
    before, after = cells.last.take(slice(0, -1)), cells.first.take(slice(1, None))
    recorded = (before.at == NOT_RECORDED) == (after.at == NOT_RECORDED)
    fine[1:] = (before.wall_times <= after.wall_times) & (before.at <= after.at) & recorded
    fine[starts] = True
    return np.logical_and.reduceat(fine, starts)
