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
_TIMES_READ_MAX: Final = 8
"""Times as many rows as reports_max are read at most: a report has a row for each set of its tags."""


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
    read = reports = 0
    for part in visible_history(counter).parts:
        following: Part | None = part
        while following is not None:
            following, rows = _page(source, run_id, counter.id, following, steps, times)
            read += rows
            reports += len(steps[-1])
            if reports > reports_max or read > reports_max * _TIMES_READ_MAX:
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

    Adds what is known of each report once. Axes ascend by first step: what lies behind the page's end is read again.
    """
    rows = 0
    end = part.last
    page: list[tuple[Int64, Float64]] = []
    for axis in source.axes(run_id, counter_id, part.attempt, first_step=part.first, last_step=part.last):
        begin = int(axis[0][0])
        if rows >= _PAGE_ROWS and begin > part.first:
            end = begin - 1
            break
        page.append(axis)
        rows += len(axis[0])
    all_steps = np.concatenate([np.empty(0, np.int64), *(axis[0] for axis in page)])
    all_times = np.concatenate([np.empty(0), *(axis[1] for axis in page)])
    within = np.flatnonzero((all_steps >= part.first) & (all_steps <= end))
    order = within[np.lexsort((all_times[within], all_steps[within]))]
    all_steps, all_times = all_steps[order], all_times[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(all_steps) > 0) | (np.diff(all_times) != 0)
    steps.append(all_steps[new])
    times.append(all_times[new])
    return (Part(part.attempt, end + 1, part.last) if end < part.last else None), rows
