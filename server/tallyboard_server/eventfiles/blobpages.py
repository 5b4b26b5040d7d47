"""Reads what is visible of a run's tags that are no scalars, tag by tag: a page is bounded in blobs, not in steps.

A counter's step may hold a thousand images. Readers want each tag's points in order of steps, and no other order.
"""

from collections import deque
from dataclasses import replace
from typing import Final

import numpy as np

from tallyboard_server.eventfiles.ordering import Rows, rows_of
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.model import Block, RunState
from tallyboard_server.store.paging import Stretch, visible_stretches
from tallyboard_server.store.protocol import Snapshot

_ROWS_MAX: Final = 4_096
"""Points looked at for one page."""


class BlobStretches:
    """The stretches of all such tags of a run in one state, and how far they were read."""

    def __init__(self, state: RunState) -> None:
        self._up_to_pos = state.pos
        counters = {counter.id: counter for counter in state.counters.values()}
        self._left = deque(
            (tag.id, stretch)
            for tag in state.tags.values()
            if not tag.is_scalar and tag.counter_id and tag.is_bound(counters[tag.counter_id])
            for stretch in visible_stretches(state.id, counters[tag.counter_id])
        )

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return not self._left

    def read(self, view: Snapshot, names: TagNames, bytes_max: int) -> Rows:
        """The next points of the tag in front: at least one if it has any left, else up to bytes_max of blobs."""
        tag_id, stretch = self._left[0]
        block, cut = _read_rows(view, tag_id, stretch, self._up_to_pos)
        keys = block.values[:, 0].tolist()
        sizes = view.blob_sizes(stretch.run_id, keys)
        filled = np.cumsum([sizes.get(key, 0) for key in keys])
        count = max(1, int(np.searchsorted(filled, bytes_max, side="right")))
        if count < len(keys):
            cut = int(block.steps[count])
            block = block.take(slice(0, count))
        if cut > stretch.last:
            self._left.popleft()
        else:
            self._left[0] = tag_id, replace(stretch, first=cut)
        return rows_of(block, names, view.blobs(stretch.run_id, keys[:count]))


def _read_rows(view: Snapshot, tag_id: int, stretch: Stretch, up_to_pos: int) -> tuple[Block, int]:
    """Rows of one tag up to a cut, ascending, and the cut: the step at which the next page begins."""
    found: list[Block] = []
    rows = 0
    cut = stretch.last + 1
    for block in view.blocks(
        stretch.run_id,
        stretch.counter_id,
        stretch.attempt,
        tag_id=tag_id,
        first_step=stretch.first,
        last_step=stretch.last,
    ):
        begin = int(block.steps[0])
        if begin > stretch.first and rows >= _ROWS_MAX:
            cut = begin
            break
        if block.pos <= up_to_pos:
            found.append(block)
            rows += len(block.steps)
    within = [block.between(stretch.first, cut - 1) for block in found]
    joined = Block(
        0,
        stretch.counter_id,
        stretch.attempt,
        np.array([tag_id], np.int32),
        np.concatenate([np.empty(0, np.int64), *(block.steps for block in within)]),
        np.concatenate([np.empty(0), *(block.wall_times for block in within)]),
        np.concatenate([np.empty((0, 1)), *(block.values for block in within)]),
    )
    return joined.take(np.argsort(joined.steps, kind="stable")), cut
