"""A checksum of points that does not depend on their order: what was accepted and what is stored are compared by it.

Each scalar is hashed with its tag, step, wall time and `at`, and the hashes are added up modulo 2^64. So the sum is
the same however reports are cut into blocks, merged or sorted, grows with each batch by the batch's own, and differs
if a value, a step or a time differs in one bit, or if a point is missing or there twice. It finds faults, not forgery.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tallyboard_server.model import Block

UInt64 = npt.NDArray[np.uint64]

_SLAB: Final = 32_768
"""Scalars hashed at a time: 256 KiB, which stays in the processor's cache."""
_MASK: Final = 2**64 - 1
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_WALL: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_AT: Final = np.uint64(0x165667B19E3779F9)
_COUNTER: Final = 0xD6E8FEB86659FD93
_TAG: Final = np.uint64(0xFF51AFD7ED558CCD)
_MIX: Final = np.uint64(0xC4CEB9FE1A85EC53)
"""Odd multipliers keep the parts of a point apart; a step of 2 never looks like a wall time of 1."""
_HIGH: Final = np.uint64(33)
_LOW: Final = np.uint64(29)


def checksum(block: Block) -> int:
    """The sum over all scalars of a block: 0 to 2^64 - 1."""
    rows = row_words(block.steps, block.wall_times)
    for counter_id, column in block.at.items():
        places = (_words(column) * _AT) ^ np.uint64(counter_id * _COUNTER & _MASK)
        if (column < 0).any():  # filled in where blocks that do not say were merged with others that do
            places[column < 0] = 0
        rows += places
    tags, words = tag_words(block.tag_ids.tobytes()), _words(block.values)
    if words.size <= _SLAB:
        return int(_hashed(tags, rows, words).sum(dtype=np.uint64))
    rows_max = max(1, _SLAB // len(tags))
    slabs = (slice(first, first + rows_max) for first in range(0, len(rows), rows_max))
    return sum(int(_hashed(tags, rows[slab], words[slab]).sum(dtype=np.uint64)) for slab in slabs) & _MASK


def grown(known: int | None, blocks: Iterable[Block]) -> int | None:
    """The checksum of an attempt with more blocks; None stays unknown."""
    for block in blocks:
        if known is None:
            return None
        known = add(known, checksum(block))
    return known


def row_words(steps: npt.NDArray[np.int64], wall_times: npt.NDArray[np.float64]) -> UInt64:
    """What the scalars of each row have in common: uint64[n]."""
    rows = _words(steps) * _STEP
    rows += _words(wall_times) * _WALL
    return rows


@lru_cache(maxsize=4096)
def tag_words(tag_ids: bytes) -> UInt64:
    """What tells the columns of a tag set apart (ids as int32 bytes): uint64[k], not to be written to."""
    words = (np.frombuffer(tag_ids, np.int32).astype(np.uint64) + np.uint64(1)) * _TAG
    words ^= words >> _HIGH
    words *= _MIX
    return words


def column_sums(tags: UInt64, rows: UInt64, words: UInt64) -> UInt64:
    """The sum of each column of words[n, k], of the tags [k] at the rows [n]: uint64[k]."""
    sums: UInt64 = _hashed(tags, rows, words).sum(axis=0, dtype=np.uint64)
    return sums


def add(one: int, other: int) -> int:
    """The checksum of both together."""
    return (one + other) & _MASK


def _hashed(tags: UInt64, rows: UInt64, words: UInt64) -> UInt64:
    mixed: UInt64 = words + rows[:, None]
    mixed ^= tags
    mixed ^= mixed >> _HIGH
    mixed *= _MIX
    mixed ^= mixed >> _LOW
    return mixed


def _words(column: npt.NDArray[Any]) -> UInt64:
    """Eight-byte numbers as the bits they are."""
    return np.ascontiguousarray(column).view(np.uint64)
