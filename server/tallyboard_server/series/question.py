"""What can be asked of a run's tags, and what comes back: points or buckets along an x axis."""

from dataclasses import dataclass
from typing import Final, Literal

from tallyboard.wire import Float64, Int64
from tallyboard_server.store.envelope import Cells

BUILT_IN_AXES: Final = ("step", "wall_time", "relative")
XSource = Literal["own", "recorded", "as_of_time"]
Along = Int64 | Float64
"""Places on an x axis: int64 along a counter, else float64 (seconds)."""


class UnknownAxisError(ValueError):
    """The x axis is no counter of this run."""


class PointsTooManyError(ValueError):
    """More points than one answer may hold."""


class SeriesTooManyError(PointsTooManyError):
    """More series than one answer may hold."""


class HistoryChangedError(Exception):
    """While a run was being read, a rewind or a late report changed what is visible: to be read again."""


@dataclass(slots=True, frozen=True)
class Question:
    """x: `step`, `wall_time`, `relative` or a counter's name. first ≤ x ≤ last is wanted; None: no bound.

    buckets: at most so many buckets, or the points themselves if they are no more; None: every point.
    superseded: whether what rewinds have hidden is wanted, too.
    """

    x: str = "step"
    first: float | None = None
    last: float | None = None
    buckets: int | None = None
    superseded: bool = False


@dataclass(slots=True, frozen=True)
class Places:
    """Where the marks of m cells are on the x axis; those of absent marks mean nothing."""

    first: Along
    min: Along
    max: Along
    last: Along


@dataclass(slots=True, frozen=True)
class Line:
    """A tag's points, or buckets of them, ascending by step and along x.

    merged: whether these are buckets; else each cell is one point. superseded: the attempt whose superseded end this
    is. x_source says where x comes from: `own` (the tag's own step or time), `recorded` (the `at` of the reports,
    every one), `as_of_time` (at least partly from when the other counter moved).
    """

    tag: str
    counter: str
    cells: Cells
    x: Places
    merged: bool
    x_source: XSource = "own"
    superseded: int | None = None

    @property
    def count(self) -> int:
        """How many points these are, or stand for."""
        return int(self.cells.count.sum())

    @property
    def last_step(self) -> int:
        """The newest step in it; -1 if there is none."""
        return int(self.cells.last.steps[-1]) if len(self.cells) else -1


class Allowance:
    """How much one answer may still hold: points and buckets, and series (series_max None: any number)."""

    def __init__(self, points_max: int, series_max: int | None = None) -> None:
        self.points_max = points_max
        self.left = points_max
        self.series_max = series_max
        self.series = 0

    def take(self, points: int) -> None:
        """Count some; raises PointsTooManyError if they are too many."""
        if points > self.left:
            raise PointsTooManyError(f"more than {self.points_max} points")
        self.left -= points

    def take_series(self, series: int) -> None:
        """Count series before they are read; raises SeriesTooManyError if they are too many."""
        self.series += series
        if self.series_max is not None and self.series > self.series_max:
            raise SeriesTooManyError(f"more than {self.series_max} series")
