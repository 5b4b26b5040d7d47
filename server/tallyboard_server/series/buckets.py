"""Putting neighbouring cells into buckets of equal width along x."""

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.series.question import Along


def bucket_starts(first: Along, end: float, buckets: int) -> Int64:
    """Where buckets begin, as indices of cells: at most `buckets` of them, over [first[0], end], of equal width.

    first: where each of m ≥ 1 cells begins, non-decreasing; a cell belongs to the bucket that it begins in.
    end ≥ first[-1], of the same kind. Nothing overflows over all of int64 and of finite float64.
    """
    place = np.minimum((_share(first, end) * buckets).astype(np.int64), buckets - 1)
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(np.diff(place)) + 1])


def _share(places: Along, end: float) -> Float64:
    """How far each place is on the way from the first to `end`, from 0 to 1; non-decreasing."""
    begin = places[0]
    if places.dtype.kind == "i":  # both are steps ≥ 0, whose difference fits
        span = int(end) - int(begin)
        way: Float64 = (places - begin).astype(np.float64) / max(float(span), 1.0)
        return way
    scale = 1.0 if np.isfinite(float(end) - float(begin)) else 0.5
    span_s = float(end) * scale - float(begin) * scale
    return np.asarray((places * scale - begin * scale) / span_s, np.float64) if span_s > 0 else np.zeros(len(places))
