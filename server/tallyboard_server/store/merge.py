"""Merging: many small blocks of one attempt become few large ones with exactly the same points, in order by tag."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from tallyboard.wire import Int64
from tallyboard_server.model import Block, Int32
from tallyboard_server.store.envelope import NOT_RECORDED

ROWS_PER_CHUNK: Final = 8_192
"""Rows after which a merged block is cut: 64 KiB a column before compression."""


def merge_blocks(blocks: Sequence[Block], rows_max: int = ROWS_PER_CHUNK) -> list[Block]:
    """Merge blocks of one attempt, given in journal order, into blocks of up to rows_max rows.

    Tags that stand in the same rows stay together, and each tag is in one such set only, ascending by step: so no two
    of the blocks of a tag overlap. Where a block did not say where another counter stood, NOT_RECORDED is filled in.
    All results carry the position of the first block.
    """
    if not blocks:
        return []
    alike: dict[bytes, list[int]] = {}
    for index, block in enumerate(blocks):
        alike.setdefault(block.tag_ids.tobytes(), []).append(index)
    merged: list[Block] = []
    for tag_ids, indices in _sets_of_tags(alike):
        whole = _joined([blocks[index] for index in indices], tag_ids, min(block.pos for block in blocks))
        merged.extend(_cut(whole, rows_max))
    return merged


def _sets_of_tags(alike: dict[bytes, list[int]]) -> Iterator[tuple[Int32, list[int]]]:
    """Tags that occur in the same blocks, and the indices of these blocks, ascending."""
    layouts = list(alike.values())
    where: dict[int, list[int]] = {}
    for number, key in enumerate(alike):
        for tag_id in np.frombuffer(key, np.int32).tolist():
            where.setdefault(tag_id, []).append(number)
    together: dict[tuple[int, ...], list[int]] = {}
    for tag_id, numbers in where.items():
        together.setdefault(tuple(numbers), []).append(tag_id)
    for shared, tags in together.items():
        yield np.array(tags, np.int32), sorted(index for number in shared for index in layouts[number])


def _joined(blocks: list[Block], tag_ids: Int32, pos: int) -> Block:
    """One block of all rows, ascending by step, with the columns of some tags that all of the blocks hold."""
    first = blocks[0]
    steps = np.concatenate([block.steps for block in blocks])
    wall_times = np.concatenate([block.wall_times for block in blocks])
    values = np.concatenate([block.values[:, _columns(block.tag_ids, tag_ids)] for block in blocks])
    counters = dict.fromkeys(name for block in blocks for name in block.at)
    at = {name: np.concatenate([places(block, name) for block in blocks]) for name in counters}
    made = Block(pos, first.counter_id, first.attempt, tag_ids, steps, wall_times, values, at)
    if np.any(steps[1:] < steps[:-1]):  # blocks of one batch may interleave
        return made.take(np.argsort(steps, kind="stable"))
    return made


def places(block: Block, counter_id: int) -> Int64:
    """Where another counter stood at each row of a block, NOT_RECORDED if the block does not say."""
    column = block.at.get(counter_id)
    return np.full(len(block.steps), NOT_RECORDED) if column is None else column


def _columns(held: Int32, wanted: Int32) -> Int64 | slice:
    """Where the wanted tags stand among those held; all in the same order is the usual case."""
    if np.array_equal(held, wanted):
        return slice(None)
    order = np.argsort(held, kind="stable")
    return np.asarray(order[np.searchsorted(held, wanted, sorter=order)], np.int64)


def _cut(block: Block, rows_max: int) -> Iterator[Block]:
    if len(block.steps) <= rows_max:
        yield block
        return
    for first in range(0, len(block.steps), rows_max):
        yield block.take(slice(first, first + rows_max))
