"""Which points of a long curve stay: of each stretch of steps those that a chart of that resolution shows.

A bucket is 2^shift steps wide and begins at a multiple of that, so buckets of a coarser thinning are made of whole
buckets of a finer one: thinning again, later or after a crash halfway, gives what thinning once would have given.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Float64, Int64
from tallyboard_server.store import envelope

KEPT_PER_BUCKET: Final = 4
"""First, least, greatest and last point; beside them the first NaN, Infinity, -Infinity, of which there are few."""


def shift_for(first: int, last: int, points: int) -> int:
    """The least width, as a power of two, with which buckets over the steps first … last leave at most `points`."""
    buckets_max = max(1, points // KEPT_PER_BUCKET)
    shift = 0
    while (last >> shift) - (first >> shift) + 1 > buckets_max:
        shift += 1
    return shift


def kept(steps: Int64, values: Float64, shift: int) -> npt.NDArray[np.bool_]:
    """Which points of a tag stay, bool[n]; steps ascend strictly.

    Of each bucket the first and the last point, the least and the greatest finite value (the first of equals), and the
    first NaN, Infinity and -Infinity.
    """
    n = len(steps)
    stays = np.zeros(n, np.bool_)
    if not n:
        return stays
    buckets = steps >> shift
    starts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(np.diff(buckets)) + 1])
    cells = envelope.grouped(envelope.of_points(steps, np.zeros(n), values), starts)
    for marks in (cells.first, cells.min, cells.max, cells.last):
        there = marks.steps[marks.steps != envelope.NOWHERE]
        stays[np.searchsorted(steps, there)] = True
    for odd in (np.isnan(values), values == np.inf, values == -np.inf):
        rows = np.flatnonzero(odd)
        stays[rows[np.unique(buckets[rows], return_index=True)[1]]] = True
    return stays
