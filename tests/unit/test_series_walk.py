"""How often a walk along an axis reads the store: by the points there are, not by the cells that are out of order."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import Counter
from tallyboard_server.series.asof import Reached
from tallyboard_server.series.axis import Axis
from tallyboard_server.series.walk import Walk
from tallyboard_server.store import envelope
from tallyboard_server.store.envelope import Cells

POINTS_AT_ONCE = 65_536
CELL = 128


@dataclass
class Stored:
    """A tag's points, and how many of them each read took."""

    steps: Int64
    walls: Float64
    values: Float64
    at: Int64
    reads: list[int] = field(default_factory=list)

    def cells(self) -> Cells:
        (found,) = envelope.of_columns(self.steps, self.walls, self.values[None, :], CELL, self.at)
        return found

    def finer(self, first: int, last: int, rows_max: int) -> Cells:
        assert rows_max == 1
        low, high = np.searchsorted(self.steps, first), np.searchsorted(self.steps, last, side="right")
        self.reads.append(int(high - low))
        rows = slice(low, high)
        return envelope.of_points(self.steps[rows], self.walls[rows], self.values[rows], self.at[rows])


def jittered(n: int) -> Stored:
    """Points 0.1 s and 512 tokens apart, each off by up to five of them: hardly a cell is in order."""
    rng = np.random.default_rng(7)
    return Stored(
        steps=np.arange(n) * 3,
        walls=1.7e9 + np.arange(n) * 0.1 + rng.uniform(-0.5, 0.5, n),
        values=rng.normal(size=n),
        at=np.arange(n) * 512 + rng.integers(0, 2_560, n),
    )


@pytest.mark.parametrize("x", ["wall_time", "relative", "tokens"])
def test_marks_of_cells_out_of_order_are_read_in_runs(x: str) -> None:
    stored = jittered(300_000)
    cells = stored.cells()
    assert not cells.ordered.any()
    reached = Reached(np.zeros(1), np.zeros(2, np.int64))
    axis = Axis(Counter(2, "tokens") if x == "tokens" else None, relative=x == "relative", read=lambda: reached)
    found, places = Walk(axis, stored.finer).along(cells, 1_000)

    own = stored.at if x == "tokens" else stored.walls
    along = np.maximum.accumulate(own) - (own[0] if x == "relative" else 0)
    for marks, shown in ((found.first, places.first), (found.min, places.min), (found.max, places.max)):
        np.testing.assert_array_equal(shown, along[np.searchsorted(stored.steps, marks.steps)])
    assert len(found) > 500
    # Along a counter the points are read for the largest place in each cell, too.
    assert len(stored.reads) <= (2 if x == "tokens" else 1) * (len(stored.steps) // POINTS_AT_ONCE + 1)
    assert max(stored.reads) <= POINTS_AT_ONCE + CELL


def test_few_cells_out_of_order_are_all_that_is_read() -> None:
    stored = jittered(300_000)
    stored.walls.sort()
    stored.at.sort()
    for begin in (1_000, 5_000, 250_000):
        stored.walls[begin + 5] = stored.walls[begin]
        stored.values[begin + 3], stored.values[begin + 5] = -100.0, 100.0
    found, places = Walk(Axis(None, relative=False, read=None), stored.finer).along(stored.cells(), 10)
    along = np.maximum.accumulate(stored.walls)
    np.testing.assert_array_equal(places.max, along[np.searchsorted(stored.steps, found.max.steps)])
    assert len(stored.reads) <= 2
    assert sum(stored.reads) < 10_000
