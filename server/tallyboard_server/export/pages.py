"""A run's points as they stood at one moment, read in pages by step: each in a snapshot of its own, short and bounded.

Nothing is held for that moment but the run's state. Below an attempt's last step nothing is ever added, which tags
stand at its last step the state says (`tail_tags`), and what a later rewind hides stays in the store. So reports and
rewinds that come meanwhile change nothing of what is read. Only what removes points does: deleting and pruning.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard.wire.limits import MIB
from tallyboard_server.model import Attempt, Block, Counter, Int32, RunState
from tallyboard_server.store.merge import merge_blocks
from tallyboard_server.store.paging import Stretch, read_page
from tallyboard_server.store.protocol import Snapshot, Store

PAGE_BYTES: Final = MIB
"""Columns read for one page, and one block more: a chunk is read whole."""
VIEW_S: Final = 0.1
"""How long one read of the store lasts; a quarter second is the store's limit."""
TAGS_AT_ONCE: Final = 64
"""Of a run with more tags so many are read together, then the next: a chunk of all would not be bounded."""
SCALARS_AT_ONCE: Final = 2**20
"""An attempt with no more scalars is read with all its tags at once, however many they are: 8 MiB of values."""
_FEW: Final = 4
"""If no more than one in so many tags is wanted, each is read by itself, and the others' values are not touched."""
_ROWS_MAX: Final = 2**62


class ExportBrokenError(Exception):
    """It can't go on: points of the run were removed while it was read, say; what came so far is not all of it."""


@dataclass(slots=True, frozen=True)
class Wanted:
    """What of a run: tags by name or shell pattern (none given: all), and whether superseded points, too.

    x: another counter, if it is to be told where that stood at each report.
    """

    tags: tuple[str, ...] = ()
    superseded: bool = False
    x: str | None = None

    def admits(self, tag: str) -> bool:
        """Whether a tag is wanted."""
        return not self.tags or any(tag == pattern or fnmatchcase(tag, pattern) for pattern in self.tags)


@dataclass(slots=True, frozen=True)
class Page:
    """Reports of one attempt, all visible or all superseded. Blocks may overlap in steps."""

    counter: str
    attempt: int
    superseded: bool
    blocks: list[Block]


@dataclass(slots=True, frozen=True)
class Scalars:
    """The scalars of a page, ascending by step, then by the name of the tag.

    steps int64[r], wall_times float64[r] of its reports; reports int64[n], tag_ids int32[n], values float64[n]: of
    each scalar the report it came with, its tag and its value.
    """

    steps: Int64
    wall_times: Float64
    reports: Int64
    tag_ids: Int32
    values: Float64

    def __len__(self) -> int:
        return len(self.values)

    def take(self, part: slice) -> "Scalars":
        """Consecutive ones of them; all the reports stay."""
        return Scalars(self.steps, self.wall_times, self.reports[part], self.tag_ids[part], self.values[part])


@dataclass(slots=True, frozen=True)
class _Part:
    """A stretch of an attempt to be read; tag_ids None: with all tags, else each by itself."""

    counter: Counter
    attempt: Attempt
    superseded: bool
    first: int
    last: int
    tag_ids: tuple[int, ...] | None


class Reader:
    """Reads what is wanted of a run as it stood in `state`."""

    def __init__(
        self, store: Store, state: RunState, wanted: Wanted, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store = store
        self.state = state
        self.wanted = wanted
        self._clock = clock
        self.names = {tag.id: name for name, tag in state.tags.items()}
        self._ids = {tag.id for name, tag in state.tags.items() if tag.is_scalar and wanted.admits(name)}
        self._all = len(self._ids) == len(state.tags)
        self.ranks = np.zeros(max(self.names, default=0) + 1, np.int64)
        self.ranks[sorted(self.names, key=self.names.__getitem__)] = np.arange(len(self.names))

    def pages(self) -> Iterator[Page]:
        """Page after page: counters in order of creation, then attempts, then steps (of many tags, 64 at a time).

        Visible stretches of a counter's attempts ascend, so without superseded points each tag's steps do. Raises
        ExportBrokenError if points were removed meanwhile, and StoreError.
        """
        for part in self._parts():
            first = part.first
            while first <= part.last:
                page, first = self._read(replace(part, first=first))
                if page.blocks:
                    yield page

    def scalars(self, page: Page) -> Scalars:
        """A page's scalars in order."""
        reports, tag_ids, values = [], [], []
        begin = 0
        for block in page.blocks:
            n, k = block.values.shape
            by_name = np.argsort(self.ranks[block.tag_ids])
            reports.append(np.repeat(np.arange(begin, begin + n), k))
            tag_ids.append(np.tile(block.tag_ids[by_name], n))
            values.append(block.values[:, by_name].reshape(-1))
            begin += n
        found = Scalars(
            np.concatenate([block.steps for block in page.blocks]),
            np.concatenate([block.wall_times for block in page.blocks]),
            np.concatenate(reports),
            np.concatenate(tag_ids),
            np.concatenate(values),
        )
        if np.all(found.steps[1:] > found.steps[:-1]):
            return found
        order = np.lexsort((self.ranks[found.tag_ids], found.steps[found.reports]))
        return replace(found, reports=found.reports[order], tag_ids=found.tag_ids[order], values=found.values[order])

    def _parts(self) -> Iterator[_Part]:
        if not self._ids:
            return
        for counter in self.state.counters.values():
            limits = counter.limits()
            for attempt in counter.attempts:
                last = attempt.last_step
                if last is None:
                    continue
                limit = limits[attempt.number]
                groups = list(self._groups(counter, attempt))
                if (visible := attempt.last_visible) is not None:
                    for group in groups:
                        yield _Part(counter, attempt, False, attempt.start, visible, group)
                if self.wanted.superseded and limit is not None and last >= limit:
                    for group in groups:
                        yield _Part(counter, attempt, True, max(limit, attempt.start), last, group)

    def _groups(self, counter: Counter, attempt: Attempt) -> Iterator[tuple[int, ...] | None]:
        """The tags of an attempt that are read together."""
        few = len(self._ids) * _FEW <= len(self.names)
        if not few and (len(self.names) <= TAGS_AT_ONCE or attempt.scalars <= SCALARS_AT_ONCE):
            yield None
            return
        tags = [
            tag
            for tag in self.state.tags.values()
            if tag.id in self._ids and (self.wanted.superseded or tag.counter_id == counter.id)
        ]  # superseded points may be of a tag that has gone on to another counter since
        ids = sorted((tag.id for tag in tags), key=lambda tag_id: int(self.ranks[tag_id]))
        yield from (tuple(ids[i : i + TAGS_AT_ONCE]) for i in range(0, len(ids), TAGS_AT_ONCE))

    def _read(self, part: _Part) -> tuple[Page, int]:
        """A page from the part's first step on, and the step at which the next one begins."""
        until = self._clock() + VIEW_S

        def is_over() -> bool:
            return self._clock() >= until

        stretch = Stretch(self.state.id, part.counter.id, part.attempt.number, part.first, part.last)
        with self.store.snapshot() as view:
            self._check_whole(view, part)
            if part.tag_ids is None:
                blocks, cut = read_page(view, stretch, bytes_max=PAGE_BYTES, is_over=is_over)
            else:
                blocks, cut = _read_tags(view, stretch, part.tag_ids, is_over)
        kept = [then for block in blocks for then in self._as_of_then(block, part.attempt)]
        merged = merge_blocks(kept, _ROWS_MAX)
        return Page(part.counter.name, part.attempt.number, part.superseded, merged), cut

    def _check_whole(self, view: Snapshot, part: _Part) -> None:
        """Raise ExportBrokenError if points of the attempt were removed since the run was begun with."""
        now = view.load_by_id(self.state.id)
        if now is None:
            raise ExportBrokenError(f"{self.state.name} was deleted while it was exported")
        attempt = now.counters[part.counter.name].attempts[part.attempt.number - 1]
        if attempt.pruned_scalars != part.attempt.pruned_scalars:
            raise ExportBrokenError(f"{self.state.name} was pruned while it was exported; export it again")

    def _as_of_then(self, block: Block, attempt: Attempt) -> list[Block]:
        """The scalars of a block that are wanted and were there in `state`."""
        if not self._all:
            columns = [i for i, tag_id in enumerate(block.tag_ids.tolist()) if tag_id in self._ids]
            if not columns:
                return []
            if len(columns) < len(block.tag_ids):
                block = _columns(block, np.array(columns))
        if int(block.steps[-1]) != attempt.last_step:
            return [block]
        then = np.flatnonzero(np.isin(block.tag_ids, attempt.tail_tags))
        if len(then) == len(block.tag_ids):
            return [block]
        last = _columns(block.take(slice(-1, None)), then)
        return [part for part in (block.take(slice(0, -1)), last) if part.values.size]


def _columns(block: Block, columns: Int64) -> Block:
    return replace(block, tag_ids=block.tag_ids[columns], values=block.values[:, columns])


def _read_tags(
    view: Snapshot, stretch: Stretch, tag_ids: tuple[int, ...], is_over: Callable[[], bool]
) -> tuple[list[Block], int]:
    """As `read_page`, each tag by itself: all up to the step that the slowest has come to."""
    cut = stretch.last + 1
    found: list[Block] = []
    bytes_max = max(1, PAGE_BYTES // len(tag_ids))
    for tag_id in tag_ids:
        blocks, cut = read_page(
            view, replace(stretch, last=cut - 1), bytes_max=bytes_max, is_over=is_over, tag_id=tag_id
        )
        found += blocks
    rows = (block.between(stretch.first, cut - 1) for block in found)
    return [block for block in rows if len(block.steps)], cut
