"""Prunes one run, group by group of its merged points: each in a transaction of its own that also keeps account.

Stopped anywhere, by a crash too, some groups are pruned and others not, and the same can be asked for again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tallyboard_server.ingest import Delete, Done, IngestError, RunChangedError, RunNotFoundError
from tallyboard_server.ingest.auditing import note
from tallyboard_server.model import Attempt, Block, Counter, RunState
from tallyboard_server.principal import SERVICE, Principal
from tallyboard_server.retention.blobs import BlobSweep
from tallyboard_server.retention.policy import Outcome, Policy
from tallyboard_server.retention.thinning import kept, shift_for
from tallyboard_server.store.protocol import Group, Record, Snapshot, Store, StoreError, Transaction

logger = logging.getLogger(__name__)

TAGS_AT_ONCE: Final = 64
"""Tags whose extent is looked up in one snapshot."""
GROUPS_AT_ONCE: Final = 100
TRIES_MAX: Final = 5
"""How often an attempt is begun anew whose groups a merge has changed meanwhile; then they stay for now."""
_ROWS_MAX: Final = 2**62

Bool = npt.NDArray[np.bool_]


@dataclass(slots=True, frozen=True)
class Pruner:
    """The parts of the service that pruning needs.

    delete: carries the command out. last_heard: when anything was last heard of a run, in seconds since the epoch,
    which is also what `clock` gives. thinned: is told the id of a run whose visible points were fewer in the end.
    """

    store: Store
    record: Record
    delete: Callable[[Delete], Done]
    last_heard: Callable[[RunState], float]
    clock: Callable[[], float] = time.time
    thinned: Callable[[int], object] = lambda _run_id: None

    def run(self, name: str, policy: Policy, *, dry: bool, by: Principal = SERVICE) -> "RunPruning":
        """The pruning of one run, not begun yet; dry: only look what would go; by: who wants it."""
        return RunPruning(self, name, policy, dry=dry, by=by)


class RunPruning:
    """Prunes one run. When `steps()` is exhausted, `outcome` says what went (or, dry, would go)."""

    def __init__(self, pruner: Pruner, name: str, policy: Policy, *, dry: bool, by: Principal = SERVICE) -> None:
        self.outcome = Outcome(run=name)
        self._by = by
        self._noted = False
        self._pruner = pruner
        self._policy = policy
        self._dry = dry

    def steps(self) -> Iterator[int]:
        """Do it, a group a step; yields how many scalars each step looked at.

        Raises RunNotFoundError if there is no such run, IngestError and StoreError.
        """
        with self._pruner.store.snapshot() as view:
            state = view.load(self.outcome.run)
            if state is None:
                raise RunNotFoundError(f"there is no run {self.outcome.run!r}")
            unmerged = bool(view.journal(state.id, after_pos=0, bytes_max=1))
        before = self._policy.changed_before
        if before is not None and (heard := self._pruner.last_heard(state)) > before:
            self.outcome.skipped = f"something was heard of it {_days(self._pruner.clock() - heard)} ago"
            return
        if self._policy.whole:
            self._delete(state)
            return
        self.outcome.unmerged = unmerged
        try:
            yield from self._prune(state)
        finally:
            if self.outcome.thinned and not self._dry:
                self._pruner.thinned(state.id)
            if self._noted:
                self._note_end()
        if self._policy.superseded and not self._dry:
            yield from self._sweep_blobs()

    def _sweep_blobs(self) -> Iterator[int]:
        """Let go of blobs whose points are gone, also those of a prune that was stopped halfway."""
        with self._pruner.store.snapshot() as view:
            state = view.load(self.outcome.run)
        if state is not None and _may_have_left_blobs(state):
            sweep = BlobSweep(self._pruner.store, self._pruner.record, state)
            yield from sweep.steps()
            self.outcome.blobs, self.outcome.blob_bytes = sweep.count, sweep.nbytes

    def _prune(self, state: RunState) -> Iterator[int]:
        for counter in state.counters.values():
            shifts = self._shifts(state, counter) if self._policy.thin is not None else {}
            limits = counter.limits()
            for attempt in counter.attempts:
                limit = limits[attempt.number]
                if shifts or (self._policy.superseded and _hides(attempt, limit)):
                    yield from self._attempt(state, counter, attempt, shifts, limit)

    def _delete(self, state: RunState) -> None:
        attempts = [attempt for counter in state.counters.values() for attempt in counter.attempts]
        scalars = sum(attempt.scalars - attempt.pruned_scalars for attempt in attempts)
        if not self._dry:
            try:
                self._pruner.delete(Delete(state.name, unless_changed_since=state.meta.updated_at, by=self._by))
            except RunChangedError as error:
                self.outcome.skipped = str(error)
                return
        self.outcome.deleted, self.outcome.scalars = True, scalars

    def _shifts(self, state: RunState, counter: Counter) -> dict[int, int]:
        """By id, the tags that have more visible points than may stay, and how wide their buckets are."""
        points = self._policy.thin or 0
        own = (tag for tag in state.tags.values() if tag.counter_id == counter.id)
        bound = [tag.id for tag in own if tag.is_scalar and tag.is_bound(counter)]  # keys have no order that means much
        found: dict[int, int] = {}
        for first in range(0, len(bound), TAGS_AT_ONCE):
            extents: dict[int, tuple[int, int, int]] = {}
            for attempt in counter.attempts:
                if attempt.last_visible is not None:
                    with self._pruner.store.snapshot() as view:
                        _extend(extents, view, state.id, counter.id, attempt, bound[first : first + TAGS_AT_ONCE])
            for tag_id, (least, most, count) in extents.items():
                if count > points:
                    found[tag_id] = shift_for(least, most, points)
        return found

    def _attempt(
        self, state: RunState, counter: Counter, attempt: Attempt, shifts: dict[int, int], limit: int | None
    ) -> Iterator[int]:
        """All groups of an attempt, from the first again if a merge has put some together meanwhile."""
        counted = self.outcome.superseded, self.outcome.thinned
        batch = tries = 0
        while True:
            with self._pruner.store.snapshot() as view:
                groups = view.groups(state.id, counter.id, attempt.number, after_batch=batch, limit=GROUPS_AT_ONCE)
            for group in groups:
                batch = group.batch
                if not self._touches(group, shifts, limit):
                    continue
                part = _Part(group, shifts, limit, superseded=self._policy.superseded)
                if self._group(part):
                    yield part.scalars
                    continue
                if (tries := tries + 1) == TRIES_MAX:
                    self.outcome.unmerged = True
                    return
                batch = 0
                if self._dry:
                    self.outcome.superseded, self.outcome.thinned = counted
                break
            else:
                if len(groups) < GROUPS_AT_ONCE:
                    return

    def _touches(self, group: Group, shifts: dict[int, int], limit: int | None) -> bool:
        visible = limit is None or group.first_step < limit
        return (bool(shifts) and visible) or (
            self._policy.superseded and limit is not None and group.last_step >= limit
        )

    def _group(self, part: "_Part") -> bool:
        """Prune one group; False if it is not what it was."""
        with self._pruner.store.snapshot() as view:
            blocks = view.group_blocks(part.group)
        if not blocks:
            return False
        masks = part.masks(blocks)
        if not part.superseded + part.thinned:
            return True
        if not self._dry:
            by_block = {id(block): mask for block, mask in zip(blocks, masks, strict=True)}
            prune = self._pruner.store.prepare_prune(part.group, blocks, lambda block: by_block[id(block)])
            gone: list[int] = []

            def work(transaction: Transaction) -> None:
                gone.append(transaction.prune(prune))
                if gone[-1] and not self._noted:
                    self._note(transaction, "run.prune", superseded=self._policy.superseded, thin=self._policy.thin)

            self._pruner.record(work)
            if not gone[-1]:
                return False
            self._noted = True
        self.outcome.superseded += part.superseded
        self.outcome.thinned += part.thinned
        return True

    def _note_end(self) -> None:
        """How much went. That something goes is in the audit already, so a full disk is no reason to fail here."""
        done = self.outcome
        try:
            self._pruner.record(
                lambda transaction: self._note(
                    transaction, "run.pruned", superseded=done.superseded, thinned=done.thinned
                )
            )
        except (IngestError, StoreError, FutureTimeoutError) as error:
            logger.warning("the audit lacks how much was pruned of %s: %s", done.run, error)

    def _note(self, transaction: Transaction, action: str, **detail: object) -> None:
        note(transaction, self._pruner.clock(), self._by, action, self.outcome.run, **detail)


class _Part:
    """One group, and what is to stay of it."""

    def __init__(self, group: Group, shifts: dict[int, int], limit: int | None, *, superseded: bool) -> None:
        self.group = group
        self.scalars = self.superseded = self.thinned = 0
        self._shifts = shifts
        self._limit = limit
        self._drop = superseded

    def masks(self, blocks: list[Block]) -> list[Bool]:
        """Which scalars of each block stay, bool[n, k]; counts those that don't."""
        masks = [np.ones(block.values.shape, np.bool_) for block in blocks]
        self.scalars = sum(mask.size for mask in masks)
        ends = [len(b.steps) if self._limit is None else int(np.searchsorted(b.steps, self._limit)) for b in blocks]
        if self._drop:
            for mask, end in zip(masks, ends, strict=True):
                self.superseded += mask[end:].size
                mask[end:] = False
        columns: dict[int, list[tuple[int, int]]] = {}
        for index, block in enumerate(blocks):
            for column, tag_id in enumerate(block.tag_ids.tolist()):
                if tag_id in self._shifts and ends[index]:
                    columns.setdefault(tag_id, []).append((index, column))
        for tag_id, places in columns.items():
            self._thin(tag_id, places, blocks, ends, masks)
        return masks

    def _thin(
        self, tag_id: int, places: list[tuple[int, int]], blocks: list[Block], ends: list[int], masks: list[Bool]
    ) -> None:
        """Let go of a tag's visible points that its buckets don't keep."""
        steps = np.concatenate([blocks[index].steps[: ends[index]] for index, _ in places])
        values = np.concatenate([blocks[index].values[: ends[index], column] for index, column in places])
        stays = np.empty(len(steps), np.bool_)
        order = np.argsort(steps, kind="stable")
        stays[order] = kept(steps[order], values[order], self._shifts[tag_id])
        self.thinned += len(stays) - int(stays.sum())
        begin = 0
        for index, column in places:
            masks[index][: ends[index], column] = stays[begin : begin + ends[index]]
            begin += ends[index]


def _may_have_left_blobs(state: RunState) -> bool:
    own = {tag.counter_id for tag in state.tags.values() if not tag.is_scalar}
    counters = (counter for counter in state.counters.values() if counter.id in own)
    return any(attempt.pruned_scalars for counter in counters for attempt in counter.attempts)


def _hides(attempt: Attempt, limit: int | None) -> bool:
    return limit is not None and attempt.last_step is not None and attempt.last_step >= limit


def _extend(
    extents: dict[int, tuple[int, int, int]],
    view: Snapshot,
    run_id: int,
    counter_id: int,
    attempt: Attempt,
    tag_ids: list[int],
) -> None:
    """Widen tags' (first step, last step, count) by the visible points of an attempt."""
    found = view.cells(
        run_id, counter_id, attempt.number, tag_ids,
        first_step=attempt.start, last_step=attempt.last_visible or 0, rows_max=_ROWS_MAX,
    )  # fmt: skip
    for tag_id, cells in found.items():
        first, last, count = int(cells.first.steps[0]), int(cells.last.steps[-1]), int(cells.count.sum())
        least, most, before = extents.get(tag_id, (first, last, 0))
        extents[tag_id] = min(first, least), max(last, most), before + count


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} d"
