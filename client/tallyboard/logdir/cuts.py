"""Where the points of a file may be divided into batches so that putting each batch in order puts all in order."""

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tallyboard.logdir.chunk import Chunk
from tallyboard.wire import Int64, limits
from tallyboard.wire.limits import KIB, MIB

Bool = npt.NDArray[np.bool_]

ROWS_MAX: Final = limits.ROWS_PER_BATCH_MAX
BLOCKS_MAX: Final = limits.BLOCKS_PER_BATCH_MAX
BYTES_MAX: Final = 12 * MIB
"""Of points in one batch; the rest of a body is for names."""
ROW_BYTES: Final = 24
"""Step, wall time, value."""
BLOB_BYTES: Final = KIB
"""What a point that is no scalar takes besides its bytes, at most, framing and metadata aside."""


def mixed_up(chunk: Chunk, counter_ids: npt.NDArray[np.int64]) -> Bool:
    """bool[n + 1]: whether a counter goes back across a division before record i.

    counter_ids: of the chunk's tags. Steps that a counter reports before a division are never above one that it
    reports after it, wherever that is False.
    """
    counters = counter_ids[chunk.tags]
    order = stable_order(counters)
    counters, steps, records = counters[order], chunk.steps[order], chunk.records[order]
    same = counters[1:] == counters[:-1]
    back = same & (steps[1:] < steps[:-1])
    if not back.any():
        return np.zeros(len(chunk) + 1, np.bool_)
    depth = np.zeros(len(chunk) + 2, np.int64)
    borders = [0, *(np.flatnonzero(~same) + 1).tolist(), len(steps)]
    for begin, end in pairwise(borders):
        if not back[begin : end - 1].any():
            continue
        reached = np.maximum.accumulate(steps[begin:end])
        to_come = np.minimum.accumulate(steps[begin:end][::-1])[::-1]
        wrong = np.flatnonzero(reached[:-1] > to_come[1:]) + begin
        np.add.at(depth, records[wrong] + 1, 1)
        np.add.at(depth, records[wrong + 1] + 1, -1)
    mixed: Bool = np.cumsum(depth)[:-1] > 0
    return mixed


def fitting(chunk: Chunk, lo: int, hi: int) -> int:
    """The largest end of a batch that begins with record lo, ends before record hi, and is not too large.

    At least lo + 1: a single record that is too large is for others to divide.
    """
    rows = chunk.rows(lo, hi)
    records = chunk.records[rows]
    end = hi
    if len(records) > ROWS_MAX:
        end = min(end, int(records[ROWS_MAX]))
    if len(records) and int(chunk.tags[rows].max()) >= BLOCKS_MAX:
        tags, first = np.unique(chunk.tags[rows], return_index=True)
        if len(tags) > BLOCKS_MAX:
            end = min(end, int(records[np.sort(first)[BLOCKS_MAX]]))
    if chunk.blobs or len(records) * ROW_BYTES > BYTES_MAX:
        total = np.cumsum(row_bytes(chunk, rows))
        over = int(np.searchsorted(total, BYTES_MAX, side="right"))
        if over < len(records):
            end = min(end, int(records[over]))
    return max(lo + 1, end)


def row_bytes(chunk: Chunk, rows: slice) -> Int64:
    """How many bytes points take in a batch, about."""
    found = np.full(rows.stop - rows.start, ROW_BYTES, np.int64)
    if chunk.blobs:
        sizes = np.array([len(blob) + BLOB_BYTES for blob in chunk.blobs], np.int64)
        is_blob = chunk.is_blob[rows]
        found[is_blob] += sizes[chunk.values[rows][is_blob].astype(np.int64)]
    return found


def stable_order(keys: npt.NDArray[Any]) -> Int64:
    """The stable order of small numbers, which numpy sorts by their digits if they are short."""
    if len(keys) and int(keys.max()) < 1 << 16:
        return np.argsort(keys.astype(np.uint16), kind="stable")
    return np.argsort(keys, kind="stable")
