"""Removes what no stored point of a run refers to any more: images, texts, histograms, … whose points were pruned."""

import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from tallyboard.wire import Int64
from tallyboard.wire.limits import MIB
from tallyboard_server.model import Attempt, Counter, RunState
from tallyboard_server.store.paging import Stretch, read_page
from tallyboard_server.store.protocol import Record, Store, Transaction

_PAGE_BYTES: Final = 4 * MIB
_VIEW_S: Final = 0.1
_KEYS_AT_ONCE: Final = 1_000
"""Blobs that are looked at together."""
_DROP_AT_ONCE: Final = 256
_DROP_BYTES: Final = 8 * MIB
"""What one transaction removes, so that no report waits long for it."""


class BlobSweep:
    """The sweep of one run; `count` and `nbytes` say what went.

    What is in use is read page by page. A report that comes meanwhile may use a blob that nothing used until then, so
    nothing is removed any more once the run has grown; the next prune begins anew.
    """

    def __init__(self, store: Store, record: Record, state: RunState) -> None:
        self.count = self.nbytes = 0
        self._store = store
        self._record = record
        self._state = state

    def steps(self) -> Iterator[int]:
        """Do it; yields how many points or blobs each step looked at."""
        used = [np.empty(0, np.int64)]
        own = {tag.counter_id for tag in self._state.tags.values() if not tag.is_scalar}
        for counter in self._state.counters.values():
            if counter.id in own:
                for attempt in counter.attempts:
                    yield from self._read(counter, attempt, used)
        yield from self._drop(np.unique(np.concatenate(used)))

    def _read(self, counter: Counter, attempt: Attempt, used: list[Int64]) -> Iterator[int]:
        """Collect the keys, as bits, that an attempt's points have."""
        blob_tags = {tag.id for tag in self._state.tags.values() if not tag.is_scalar}
        first, last = attempt.start, -1 if attempt.last_step is None else attempt.last_step
        while first <= last:
            stretch = Stretch(self._state.id, counter.id, attempt.number, first, last)
            with self._store.snapshot() as view:
                blocks, first = read_page(view, stretch, bytes_max=_PAGE_BYTES, is_over=_after(_VIEW_S))
            # a block has either scalars or one such tag
            keys = (block.values[:, 0] for block in blocks if int(block.tag_ids[0]) in blob_tags)
            used.extend(np.unique(np.ascontiguousarray(column).view(np.int64)) for column in keys)
            yield sum(block.values.size for block in blocks)

    def _drop(self, used: Int64) -> Iterator[int]:
        after: float | None = None
        while True:
            with self._store.snapshot() as view:
                sizes = view.blob_size_page(self._state.id, after=after, limit=_KEYS_AT_ONCE)
            if not sizes:
                return
            after = next(reversed(sizes))
            keys = np.fromiter(sizes, np.float64, len(sizes))
            unused = keys[~np.isin(keys.view(np.int64), used)].tolist()
            for slice_ in _slices({key: sizes[key] for key in unused}):
                if not self._drop_slice(slice_):
                    return
                yield len(slice_)
            yield len(sizes)

    def _drop_slice(self, sizes: dict[float, int]) -> bool:
        dropped: list[bool] = []

        def work(transaction: Transaction) -> None:
            dropped.append(transaction.drop_blobs(self._state.id, list(sizes), pos=self._state.pos))

        self._record(work)
        if dropped[-1]:
            self.count += len(sizes)
            self.nbytes += sum(sizes.values())
        return dropped[-1]


def _after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _slices(sizes: dict[float, int]) -> Iterator[dict[float, int]]:
    """Blobs in portions of bounded number and size, at least one each."""
    found: dict[float, int] = {}
    for key, size in sizes.items():
        if found and (len(found) == _DROP_AT_ONCE or sum(found.values()) + size > _DROP_BYTES):
            yield found
            found = {}
        found[key] = size
    if found:
        yield found
