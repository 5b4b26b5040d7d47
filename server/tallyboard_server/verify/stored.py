"""Reads everything a run has stored, attempt by attempt in short snapshots, and adds it up.

A run may grow meanwhile: below an attempt's last step nothing is ever added, so that part can be read any time, and
what stands at its last step is read in the snapshot that the state came from. In the same way what the event file
does not hold yet (the journal after `exported_pos`) is told apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tallyboard.wire import Int64
from tallyboard.wire.limits import MIB, STEP_MAX
from tallyboard_server.checksum import add, checksum
from tallyboard_server.model import Attempt, Block, Counter, RunState
from tallyboard_server.store.merge import merge_blocks
from tallyboard_server.store.paging import Stretch as Range
from tallyboard_server.store.paging import read_page
from tallyboard_server.store.protocol import Generation, Readable, Snapshot
from tallyboard_server.verify.ledger import Ledger

PAGE_BYTES: Final = 4 * MIB
VIEW_S: Final = 0.1
"""How long one read of the store lasts; a quarter second is the store's limit."""
LAG_BYTES_MAX: Final = 16 * MIB
"""Journal that the event file may lack; beyond it only the store is compared with what was sent."""
_ROWS_MAX: Final = 1 << 62

Place = tuple[int, int]
"""(counter id, attempt)."""


@dataclass(slots=True)
class Sums:
    """What was read of an attempt. faults: what no store may hold, in words."""

    scalars: int = 0
    checksum: int = 0
    visible: int = 0
    last_step: int = -1
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Subject:
    """A run as it stood in one snapshot: all that can change later was read with it.

    generation: its live event file if that can be compared, and None otherwise (then `why_not` says why, if it
    should be there). file_names: of all its generations. cuts: the step of each attempt from which on the rows were
    read, into `tails`.
    """

    state: RunState
    generation: Generation | None
    why_not: str | None
    file_names: frozenset[str]
    cuts: dict[Place, int]
    tails: dict[Place, list[Block]]


def blob_tags(state: RunState) -> frozenset[int]:
    """Ids of the tags that are no scalars."""
    return frozenset(tag.id for tag in state.tags.values() if not tag.is_scalar)


def take(view: Snapshot, state: RunState) -> Subject:
    """Begin with a run in one snapshot."""
    generations = view.generations(state.id)
    live = [g for g in generations if g.state == "live"]
    generation = live[-1] if live else None
    lag: list[Block] = []
    why_not = None
    if generation is None:
        if any(counter.last_step is not None for counter in state.counters.values()):
            why_not = "there is no event file yet"
    elif generation.epoch != state.epoch:
        why_not = f"{generation.file_name} is from before a rewind or late reports, and about to be replaced"
    else:
        lag = view.journal(state.id, after_pos=generation.exported_pos, bytes_max=LAG_BYTES_MAX)
        if generation.exported_pos < state.pos and (not lag or lag[-1].pos < state.pos):
            why_not = f"{generation.file_name} is far behind: {state.pos - generation.exported_pos:,} blocks"
    cuts: dict[Place, int] = {}
    for counter in state.counters.values():
        for attempt in counter.attempts:
            cuts[counter.id, attempt.number] = attempt.last_step or 0
    for block in lag:
        place = block.counter_id, block.attempt
        cuts[place] = min(cuts.get(place, 0), int(block.steps[0]))
    tails = {place: list(_tail(view, state.id, place, cut)) for place, cut in cuts.items()}
    names = frozenset(generation.file_name for generation in generations)
    return Subject(state, None if why_not else generation, why_not, names, cuts, tails)


def _tail(view: Snapshot, run_id: int, place: Place, cut: int) -> Iterator[Block]:
    for block in view.blocks(run_id, *place, first_step=cut):
        if len((rows := block.between(cut, STEP_MAX)).steps):
            yield rows


class StoreReader:
    """Reads one subject whole, page by page, into sums and a ledger of what its event file should hold."""

    def __init__(self, store: Readable, subject: Subject, clock: Callable[[], float]) -> None:
        self._store = store
        self._subject = subject
        self._clock = clock
        self._blob_tags = blob_tags(subject.state)
        self.ledger = Ledger(self._blob_tags)
        self.keys: list[Int64] = []
        """Packed keys of the blobs that were read of, as columns, each key at least once."""
        self.sums: dict[Place, Sums] = {}

    def pages(self) -> Iterator[int]:
        """Read on; yields the number of scalars of each page."""
        for counter in self._subject.state.counters.values():
            limits = counter.limits()
            for attempt in counter.attempts:
                yield from self._attempt(counter, attempt, limits[attempt.number])

    def _attempt(self, counter: Counter, attempt: Attempt, limit: int | None) -> Iterator[int]:
        place = counter.id, attempt.number
        sums = self.sums[place] = Sums()
        cut = self._subject.cuts[place]
        left = Range(self._subject.state.id, *place, 0, cut - 1)
        while left.first <= left.last:
            first = left.first
            blocks, next_first = self.read(left)
            left = Range(left.run_id, *place, next_first, left.last)
            yield self._add(sums, counter, attempt, limit, first, blocks)
        yield self._add(sums, counter, attempt, limit, cut, self._subject.tails[place], tail=True)
        ended = attempt.last_step is None or sums.last_step == attempt.last_step
        if not ended and not attempt.pruned_scalars:  # pruning may take the end; the checksum tells whether it did
            sums.faults.append(f"it ends at step {sums.last_step}, acknowledged was step {attempt.last_step}")

    def read(self, stretch: Range) -> tuple[list[Block], int]:
        """A page of an attempt, in a snapshot of its own, and where the next one begins."""
        until = self._clock() + VIEW_S
        with self._store.snapshot() as view:
            return read_page(view, stretch, bytes_max=PAGE_BYTES, is_over=lambda: self._clock() >= until)

    def in_file(self, block: Block, limit: int | None) -> Block | None:
        """The rows of a block that the event file should hold."""
        generation = self._subject.generation
        if generation is None or block.pos > generation.exported_pos:
            return None
        return block if limit is None else block.between(0, limit - 1)

    def _add(
        self,
        sums: Sums,
        counter: Counter,
        attempt: Attempt,
        limit: int | None,
        first: int,
        blocks: list[Block],
        *,
        tail: bool = False,
    ) -> int:
        """Add a page up; the rows of a tail may be in the file or not, those of other pages are."""
        if not blocks:
            return 0
        merged = merge_blocks(blocks, _ROWS_MAX)
        scalars = sum(block.values.size for block in merged)
        sums.scalars += scalars
        for block in merged:
            sums.checksum = add(sums.checksum, checksum(block))
            sums.last_step = max(sums.last_step, int(block.steps[-1]))
            if int(block.tag_ids[0]) in self._blob_tags:
                self.keys.append(np.unique(np.ascontiguousarray(block.values[:, 0]).view(np.int64)))
        sums.faults += _faults(merged, attempt.start)
        first = max(first, attempt.start)
        if (limit is None or first < limit) and self._subject.generation is not None:
            stretch = self.ledger.begin(counter.id, attempt.number, first)
            for block in blocks if tail else merged:
                rows = self.in_file(block, limit)
                if rows is not None and len(rows.steps):
                    self.ledger.expect(stretch, rows)
                    sums.visible += rows.values.size
        return scalars


def _faults(blocks: list[Block], start: int) -> Iterator[str]:
    """What the step contract rules out: steps before the attempt's start, a tag twice at a step."""
    if (least := min(int(block.steps[0]) for block in blocks)) < start:
        yield f"it holds step {least}, before its start {start}"
    by_tag: dict[int, list[Block]] = {}
    for block in blocks:
        if len(twice := np.flatnonzero(np.diff(block.steps) == 0)):
            yield f"it holds a tag twice at step {int(block.steps[twice[0]])}"
            return
        for tag_id in block.tag_ids.tolist():
            by_tag.setdefault(tag_id, []).append(block)
    seen: set[tuple[int, ...]] = set()
    for shared in by_tag.values():
        key = tuple(block.pos for block in shared)
        if len(shared) == 1 or key in seen:
            continue
        seen.add(key)
        steps = np.sort(np.concatenate([block.steps for block in shared]))
        if len(twice := np.flatnonzero(np.diff(steps) == 0)):
            yield f"it holds a tag twice at step {int(steps[twice[0]])}"
            return
