"""The x axes: where a point is along a clock or another counter, and what of an axis a question asks for."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import Counter
from tallyboard_server.series.asof import Reached
from tallyboard_server.series.question import Along
from tallyboard_server.store.envelope import NOT_RECORDED

STEP_MAX: Final = 2**63 - 1


@dataclass(slots=True)
class Axis:
    """An x axis other than a tag's own steps: the clock, or another counter.

    Nothing goes back along it: a point is at the largest place of all points up to it. read: reads where the other
    counter stood, which is asked for only if some report did not record it.
    """

    other: Counter | None = None
    relative: bool = False
    read: Callable[[], Reached] | None = None
    _reached: Reached | None = field(default=None, init=False)

    @property
    def at(self) -> int | None:
        """The counter whose recorded places cells should bring."""
        return None if self.other is None else self.other.id

    @property
    def nothing(self) -> Along:
        """One place before all others."""
        return np.full(1, -np.inf) if self.other is None else np.full(1, NOT_RECORDED)

    def places(self, wall_times: Float64, at: Int64) -> Along:
        """Where points are by themselves: wall_times float64[n], and `at` int64[n] of the other counter."""
        if self.other is None:
            return wall_times
        missing = at == NOT_RECORDED
        if missing.any():
            at = np.where(missing, self._by_time().at(wall_times), at)
        return at

    def shown(self, places: Along, origin: float) -> Along:
        """Places as an answer shows them; origin: the wall time of the curve's first point."""
        return np.asarray(places - origin, np.float64) if self.relative else places

    def bound(self, wanted: float, *, up: bool) -> float:
        """A bound of a question as it is compared with places; whole numbers along a counter."""
        return wanted if self.other is None else whole(wanted, up=up)

    def _by_time(self) -> Reached:
        if self._reached is None:
            if self.read is None:
                raise LookupError("nothing is known of when the counter moved")
            self._reached = self.read()
        return self._reached


def whole(number: float, *, up: bool) -> int:
    """The next whole number above or below a finite number, between -1 and STEP_MAX + 1; an int stays as it is."""
    rounded = number if isinstance(number, int) else math.ceil(number) if up else math.floor(number)
    return min(max(rounded, -1), STEP_MAX + 1)
