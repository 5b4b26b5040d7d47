"""Where a counter stood at a time: what x is where reports did not record it."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import Counter
from tallyboard_server.series.history import Part, visible_history
from tallyboard_server.series.question import PointsTooManyError
from tallyboard_server.series.reading import Source

REPORTS_MAX: Final = 4_000_000
"""Most reports of the other counter that are read to find x by time: 16 bytes each."""
_PAGE_ROWS: Final = 200_000
"""Rows after which reading begins anew behind them, so that the snapshot can be exchanged."""


@dataclass(slots=True, frozen=True)
class Reached:
    """Where a counter stood: steps[i + 1] from times[i] on (ascending), steps[0] = 0 before any report."""

    times: Float64
    steps: Int64

    def at(self, wall_times: Float64) -> Int64:
        """The largest visible step reported by each of these times."""
        found: Int64 = self.steps[np.searchsorted(self.times, wall_times, side="right")]
        return found


def read_reached(source: Source, run_id: int, counter: Counter, reports_max: int = REPORTS_MAX) -> Reached:
    """Read where a counter stood from its visible reports; raises PointsTooManyError if they are too many."""
    steps: list[Int64] = [np.empty(0, np.int64)]
    times: list[Float64] = [np.empty(0)]
    read = 0
    for part in visible_history(counter).parts:
        following: Part | None = part
        while following is not None:
            following, rows = _page(source, run_id, counter.id, following, steps, times)
            read += rows
            if read > reports_max:
                raise PointsTooManyError(
                    f"more than {reports_max} reports of {counter.name} to find x from: their reports should carry "
                    f"`at`, where {counter.name} stood"
                )
    all_times = np.concatenate(times)
    order = np.argsort(all_times, kind="stable")
    reached = np.maximum.accumulate(np.concatenate(steps)[order])
    return Reached(all_times[order], np.concatenate([np.zeros(1, np.int64), reached]))


def _page(
    source: Source, run_id: int, counter_id: int, part: Part, steps: list[Int64], times: list[Float64]
) -> tuple[Part | None, int]:
    """Read rows of a part, about _PAGE_ROWS of them; returns what is left of it, and how many were read.

    Blocks ascend by first step: those that begin where the page ended are read twice, which changes no maximum.
    """
    rows = 0
    for block in source.blocks(run_id, counter_id, part.attempt, first_step=part.first, last_step=part.last):
        begin = int(block.steps[0])
        if rows >= _PAGE_ROWS and begin > part.first:
            return Part(part.attempt, begin, part.last), rows
        clipped = block.between(part.first, part.last)
        steps.append(clipped.steps)
        times.append(clipped.wall_times)
        rows += len(clipped.steps)
    return None, rows
