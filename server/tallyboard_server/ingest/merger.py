"""The merger: puts small blocks of busy attempts together, and what that made again, in the background, in slices."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from tallyboard_server.ages import Ages
from tallyboard_server.ingest.commands import Done
from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store import tiers
from tallyboard_server.store.protocol import (
    ROWS_PER_GROUP,
    Record,
    RunHead,
    Snapshot,
    Store,
    StoreBusyError,
    StoreError,
    StoreFullError,
)

logger = logging.getLogger(__name__)

MIN_BLOCKS: Final = 64
"""Level-0 blocks of an attempt from which a merge is worth its transaction."""
MIN_BLOCKS_QUIET: Final = 8
FAN_IN_QUIET: Final = 4
QUIET_S: Final = 60.0
SILENT_S: Final = 600.0
"""A run that got nothing new for so long is merged from fewer blocks on, and then from a single one. (Reports that
come now and then must not each cost a merge.)"""
ENDED_S: Final = 10.0
"""A run that is finished or failed and has been quiet for so long is merged down to as little as possible."""
INTERVAL_S: Final = 1.0
SWEEP_EVERY_S: Final = 60.0
SWEEP_PAGE: Final = 1_000
SLICES_PER_TURN: Final = 32
"""Slices of a run before others get their turn."""
GROUPS_SEEN_MAX: Final = 1_000
"""Groups of an attempt among which is looked for some to put together: the newest that may still grow."""
_BYTES_PER_SCALAR: Final = 8
_UNAVAILABLE: Final = (StoreBusyError, StoreFullError, IngestError, TimeoutError)


class Merger:
    """Merges what event files no longer need at level 0: up to the position they are synced to."""

    def __init__(
        self,
        store: Store,
        record: Record,
        *,
        min_blocks: int = MIN_BLOCKS,
        slice_rows: int = ROWS_PER_GROUP,
        fan_in: int = tiers.FAN_IN,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.time,
        shares: Shares = EVERYTHING,
    ) -> None:
        self._store = store
        self._record = record
        self._shares = shares
        self._version = shares.version
        self._min_blocks = min_blocks
        self._slice_rows = slice_rows
        self._fan_in = fan_in
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._few: dict[int, tuple[int, int]] = {}
        """Of runs that grew, but by too few blocks to be worth a look: how many, and their bytes."""
        self._touched: dict[int, int] = {}
        self._ages: Ages[int] = Ages(time.monotonic)
        self._waiting_bytes = 0
        self._settled: dict[int, tuple[int, str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-merger", daemon=True)
        self._next_sweep = 0.0
        self._figures = dict.fromkeys(
            (
                "merge_slices_total",
                "merge_blocks_total",
                "merge_scalars_total",
                "merge_compactions_total",
                "merge_compacted_groups_total",
                "merge_compacted_scalars_total",
                "merge_errors_total",
            ),
            0,
        )

    def start(self) -> None:
        """Begin to merge in the background."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the slice in progress."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def notify(self, done: list[Done]) -> None:
        """Runs that have grown; see Ingest.on_commit."""
        for item in done:
            if item.deleted:
                with self._lock:
                    self._few.pop(item.state.id, None)
            elif item.receipt.stored:
                self.grew(item.state.id, len(item.blocks), item.receipt.stored)

    def grew(self, run_id: int, blocks: int, scalars: int) -> None:
        """A run has got something new. Quick; any thread."""
        if self._shares.has(run_id):
            with self._lock:
                self._grew(run_id, blocks, scalars * _BYTES_PER_SCALAR)

    def _grew(self, run_id: int, blocks: int, nbytes: int) -> None:
        """A run is looked at once it may have blocks enough for a merge: of a thousand runs that report once a second
        each look would cost as much as the report. What stays below that, the sweep finds."""
        if run_id not in self._touched:
            known_blocks, known_bytes = self._few.pop(run_id, (0, 0))
            blocks, nbytes = known_blocks + blocks, known_bytes + nbytes
            if blocks < self._min_blocks:
                self._few[run_id] = blocks, nbytes
                return
        self._touched[run_id] = self._touched.get(run_id, 0) + nbytes
        self._waiting_bytes += nbytes
        self._ages.came(run_id)

    def backlog_bytes(self) -> int:
        """Values that came since their runs were last merged: how far the merger is behind."""
        return self._waiting_bytes

    def merge_run(self, run_id: int) -> int:
        """Merge all there is to merge of a run; returns how many level-0 blocks went into it."""
        return self._merge(run_id, slices_max=None)[0]

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        return {
            **self._figures,
            "merge_runs_waiting": len(self._touched),
            "merge_lag_bytes": self._waiting_bytes,
            "merge_lag_seconds": self._ages.oldest_s(),
        }

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - without this thread the journal would never get smaller
                self._failed("merging waits", error)

    def _turn(self) -> None:
        if (version := self._shares.version) != self._version:
            self._version = version
            self._begin_anew()
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_EVERY_S
            self._sweep()
        with self._lock:
            touched = dict(self._touched)
        for run_id, came in touched.items():
            if self._stop.is_set():
                return
            try:
                with self._shares.working():
                    is_own = self._shares.has(run_id)
                    is_done = not is_own or self._merge(run_id, slices_max=SLICES_PER_TURN)[1]
            except _UNAVAILABLE:  # for the others too: they are tried again in the next turn
                raise
            except Exception as error:  # noqa: BLE001 - one run that can't be merged must not keep the others
                self._failed(f"run {run_id} can't be merged", error)
                is_done = True
            if is_done:
                self._let_go(run_id, came)

    def _begin_anew(self) -> None:
        """Other runs are this process's now: forget what is another's, and look for what has become its own."""
        with self._lock:
            for run_id in [run_id for run_id in self._touched if not self._shares.has(run_id)]:
                self._waiting_bytes -= self._touched.pop(run_id)
                self._ages.done(run_id)
            self._few.clear()
            self._settled.clear()
        self._next_sweep = 0.0

    def _let_go(self, run_id: int, came: int) -> None:
        """A run was merged to its end; what came meanwhile waits for the next turn."""
        with self._lock:
            self._waiting_bytes -= came
            self._touched[run_id] -= came
            self._ages.done(run_id)
            if self._touched[run_id]:
                self._ages.came(run_id)
            else:
                del self._touched[run_id]

    def _failed(self, what: str, error: Exception) -> None:
        self._figures["merge_errors_total"] += 1
        foreseen = isinstance(error, (StoreError, *_UNAVAILABLE))
        logger.warning("%s: %r", what, error, exc_info=None if foreseen else error)

    def _sweep(self) -> None:
        """Look at every run once in a while: what was missed, ended, or waited for the event files, is found here."""
        after_id = 0
        settled: dict[int, tuple[int, str]] = {}
        while True:
            with self._store.snapshot() as view:
                heads = view.heads(after_id=after_id, limit=SWEEP_PAGE)
            if not heads:
                self._settled = settled
                return
            with self._lock:
                for head in heads:
                    if not self._shares.has(head.run_id):
                        continue
                    if self._settled.get(head.run_id) == _come_to(head):
                        settled[head.run_id] = _come_to(head)
                    else:
                        self._touched.setdefault(head.run_id, 0)
            after_id = heads[-1].run_id

    def _merge(self, run_id: int, *, slices_max: int | None) -> tuple[int, bool]:
        """Merge a run in slices; returns how many level-0 blocks were merged, and whether nothing is left to do."""
        merged = slices = 0
        for work in (self._merge_slice, self._compact_slice):
            while taken := work(run_id):
                merged += taken if work == self._merge_slice else 0
                slices += 1
                if self._stop.is_set() or (slices_max is not None and slices >= slices_max):
                    return merged, False
        return merged, True

    def _merge_slice(self, run_id: int) -> int:
        """Merge one slice of the journal; returns how many blocks it had."""
        with self._store.snapshot() as view:
            head = view.head(run_id)
            if head is None:
                return 0
            up_to_pos = mergeable_up_to(view, run_id)
            for counter_id, attempt in view.mergeable(run_id, up_to_pos=up_to_pos, min_blocks=self._fewest(head)):
                sources = view.whole_batches(
                    run_id, counter_id, attempt, up_to_pos=up_to_pos, rows_max=self._slice_rows
                )
                if sources:
                    break
            else:
                return 0
        merge = self._store.prepare_merge(run_id, sources)
        self._record(lambda transaction: transaction.merge(merge))
        self._figures["merge_slices_total"] += 1
        self._figures["merge_blocks_total"] += len(sources)
        self._figures["merge_scalars_total"] += sum(block.values.size for block in sources)
        return len(sources)

    def _compact_slice(self, run_id: int) -> int:
        """Put some groups together; returns how many."""
        with self._store.snapshot() as view:
            head = view.head(run_id)
            if head is None:
                return 0
            is_ended = self._is_ended(head)
            fan_in = min(self._fan_in, FAN_IN_QUIET) if self._is_quiet(head) else self._fan_in
            for place in view.growing_attempts(run_id, min_groups=2 if is_ended else fan_in):
                stretches = view.growing_groups(run_id, *place, limit=GROUPS_SEEN_MAX)
                found = (tiers.due(stretch, closing=is_ended, fan_in=fan_in) for stretch in stretches)
                if groups := next(filter(None, found), None):
                    break
            else:
                over = is_ended or self._is_silent(head)  # a run that was killed stays `running` for ever
                if over and mergeable_up_to(view, run_id) >= head.pos:
                    self._settled[run_id] = _come_to(head)
                return 0
            blocks = [block for group in groups for block in view.group_blocks(group)]
        merge = self._store.prepare_merge(run_id, blocks, groups)
        self._record(lambda transaction: transaction.merge(merge))
        self._figures["merge_compactions_total"] += 1
        self._figures["merge_compacted_groups_total"] += len(groups)
        self._figures["merge_compacted_scalars_total"] += sum(block.values.size for block in blocks)
        return len(groups)

    def _fewest(self, head: RunHead) -> int:
        """Level-0 blocks of an attempt that are worth a merge."""
        if self._is_ended(head) or self._is_silent(head):
            return 1
        return min(self._min_blocks, MIN_BLOCKS_QUIET) if self._is_quiet(head) else self._min_blocks

    def _is_quiet(self, head: RunHead) -> bool:
        return self._clock() - head.updated_at >= QUIET_S

    def _is_silent(self, head: RunHead) -> bool:
        return self._clock() - head.updated_at >= SILENT_S

    def _is_ended(self, head: RunHead) -> bool:
        return head.status != "running" and self._clock() - head.updated_at >= ENDED_S


def _come_to(head: RunHead) -> tuple[int, str]:
    """What must change before there is more to merge: a run that ends is merged further than one that is silent."""
    return head.pos, head.status


def mergeable_up_to(view: Snapshot, run_id: int) -> int:
    """The position up to which no event file needs level-0 blocks any more; 0 if a run has no file yet."""
    needed = [g.exported_pos for g in view.generations(run_id) if g.state in ("building", "live")]
    return min(needed, default=0)
