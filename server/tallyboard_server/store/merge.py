"""Merging: many small blocks of one attempt become few large ones with exactly the same points."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from tallyboard_server.model import Block

ROWS_PER_AXIS: Final = 8_192
"""Rows after which a merged block is cut: 64 KiB a column before compression."""


def merge_blocks(blocks: Sequence[Block], rows_max: int = ROWS_PER_AXIS) -> list[Block]:
    """Merge level-0 blocks of one attempt (whole batches, in journal order).

    Blocks with the same tags and `at` counters are put together, in steps' order; a result carries the position of
    the first block it was made of, which no other result does.
    """
    alike: dict[tuple[bytes, tuple[int, ...]], list[Block]] = {}
    for block in blocks:
        alike.setdefault((block.tag_ids.tobytes(), tuple(block.at)), []).append(block)
    return [_joined(group) for same in alike.values() for group in _groups(same, rows_max)]


def _groups(blocks: Iterable[Block], rows_max: int) -> Iterator[list[Block]]:
    group: list[Block] = []
    rows = 0
    for block in blocks:
        if group and rows + len(block.steps) > rows_max:
            yield group
            group, rows = [], 0
        group.append(block)
        rows += len(block.steps)
    if group:
        yield group


def _joined(group: list[Block]) -> Block:
    first = group[0]
    if len(group) == 1:
        return first
    steps = np.concatenate([block.steps for block in group])
    wall_times = np.concatenate([block.wall_times for block in group])
    values = np.concatenate([block.values for block in group])
    at = {name: np.concatenate([block.at[name] for block in group]) for name in first.at}
    if np.any(steps[1:] < steps[:-1]):  # two blocks of one batch may interleave
        order = np.argsort(steps, kind="stable")
        steps, wall_times, values = steps[order], wall_times[order], values[order]
        at = {name: column[order] for name, column in at.items()}
    return Block(first.pos, first.counter_id, first.attempt, first.tag_ids, steps, wall_times, values, at)
