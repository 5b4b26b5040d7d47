"""Runs of a group as one curve: mean, spread and extremes on a common grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.series.question import Along, Line
from tallyboard_server.store.envelope import NOWHERE

INTERPOLATION: Final = (
    "linear between a run's finite points, or where it has more points than buckets between its buckets' means at "
    "the middle of their x range; nothing beyond a run's own range"
)
_VALUES_AT_ONCE: Final = 2_000_000


@dataclass(slots=True, frozen=True)
class Curve:
    """One run's finite points, or means of its buckets: first and last x of each, and values float64[n].

    nonfinite: how many of its points are NaN or ±Inf, and left out.
    """

    first: Along
    last: Along
    values: Float64
    nonfinite: int


@dataclass(slots=True, frozen=True)
class Across:
    """Columns over the grid places that at least one run reaches: x, how many runs reach it, and over their values
    mean, sample standard deviation (0 of one run), least and greatest."""

    x: Along
    count: Int64
    mean: Float64
    std: Float64
    min: Float64
    max: Float64


@dataclass(slots=True, frozen=True)
class Scale:
    """Places as float64 from the grid's begin on; halved if the whole way would overflow."""

    begin: float
    factor: float

    @classmethod
    def of(cls, low: float, high: float) -> "Scale":
        """For places from low to high."""
        whole = isinstance(low, int) or np.isfinite(high - low)
        return cls(low, 1.0 if whole else 0.5)

    def offsets(self, places: Along) -> Float64:
        """float64[n] ≥ 0; exact differences along a counter."""
        if places.dtype.kind == "i":
            return (places - np.int64(self.begin)).astype(np.float64)
        return np.asarray(places * self.factor - self.begin * self.factor, np.float64)


def curve_of(line: Line) -> Curve:
    """What of a line takes part in its group."""
    finite = line.cells.min.steps != NOWHERE
    return Curve(line.x.first[finite], line.x.last[finite], line.cells.mean[finite], int(line.cells.nonfinite.sum()))


def common_grid(curves: Sequence[Curve], places_max: int) -> Along:
    """Where curves are compared: at all places of their points if these are at most places_max, else (or if some are
    of buckets) at so many from the least to the greatest, equally far apart; whole numbers along a counter."""
    filled = [curve for curve in curves if len(curve.values)]
    if not filled:
        return np.empty(0)
    own: Along = np.unique(np.concatenate([part for curve in filled for part in (curve.first, curve.last)]))
    if len(own) <= places_max and all(np.array_equal(curve.first, curve.last) for curve in filled):
        return own
    if places_max == 1:
        return own[-1:]
    if own.dtype.kind == "i":
        low, way = int(own[0]), int(own[-1]) - int(own[0])
        return np.unique([low + way * i // (places_max - 1) for i in range(places_max)]).astype(np.int64)
    share = np.arange(places_max) / (places_max - 1)
    return np.unique(own[0] * (1 - share) + own[-1] * share)


def across(curves: Sequence[Curve], grid: Along) -> Across:
    """What the runs of one group show at the places of a grid, ascending; see INTERPOLATION."""
    filled = [curve for curve in curves if len(curve.values)]
    parts: list[tuple[Int64, Float64]] = []
    if len(grid) and filled:
        scale = Scale.of(min(curve.first[0].item() for curve in filled), max(c.last[-1].item() for c in filled))
        scale = Scale(min(scale.begin, grid[0].item()), scale.factor)
        step = max(1, _VALUES_AT_ONCE // len(filled))
        for start in range(0, len(grid), step):
            offsets = scale.offsets(grid[start : start + step])
            parts.append(_figures(np.stack([_at(curve, offsets, scale) for curve in filled])))
    count = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.int64)
    figures = np.concatenate([part[1] for part in parts], axis=1) if parts else np.empty((4, 0))
    reached = count > 0
    mean, std, least, greatest = figures[:, reached]
    return Across(grid[: len(count)][reached], count[reached], mean, std, least, greatest)


def _at(curve: Curve, offsets: Float64, scale: Scale) -> Float64:
    """A curve's value at ascending places of the grid; NaN outside of its range."""
    first, last = scale.offsets(curve.first), scale.offsets(curve.last)
    middle = first + (last - first) / 2
    after = np.searchsorted(middle, offsets, side="right")
    left, right = np.maximum(after - 1, 0), np.minimum(after, len(middle) - 1)
    way = middle[right] - middle[left]
    share = np.clip((offsets - middle[left]) / np.where(way > 0, way, 1.0), 0.0, 1.0)
    value = curve.values[left] * (1.0 - share) + curve.values[right] * share
    return np.where((offsets >= first[0]) & (offsets <= last[-1]), value, np.nan)


def _figures(values: Float64) -> tuple[Int64, Float64]:
    """Of values float64[runs, n], NaN where a run has none: count int64[n]; mean, std, min, max float64[4, n].

    Scaled by a power of two, so that no sum of squares overflows and nothing is rounded by it.
    """
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    present = np.where(known, values, 0.0)
    _, exponent = np.frexp(np.abs(present).max(axis=0))
    scaled = np.ldexp(present, -exponent)
    n = np.maximum(count, 1)
    mean = scaled.sum(axis=0) / n
    squares = (np.where(known, scaled - mean, 0.0) ** 2).sum(axis=0)
    least, greatest = np.where(known, values, np.inf).min(axis=0), np.where(known, values, -np.inf).max(axis=0)
    found = np.clip(np.ldexp(mean, exponent), least, greatest)
    std = np.ldexp(np.sqrt(squares / np.maximum(count - 1, 1)), exponent)
    return count, np.stack([found, std, least, greatest])
