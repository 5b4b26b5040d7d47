"""The merger: puts the small blocks of busy attempts together, in the background, a slice at a time."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from tallyboard_server.ingest.commands import Done
from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.ingest.waiting import Record
from tallyboard_server.store.protocol import Snapshot, Store, StoreBusyError, StoreError, StoreFullError

logger = logging.getLogger(__name__)

MIN_BLOCKS: Final = 64
"""Level-0 blocks of an attempt from which a merge is worth its transaction."""
SLICE_ROWS: Final = 65_536
"""Rows merged in one go: about 5 MB at ten tags."""
INTERVAL_S: Final = 1.0
SWEEP_EVERY_S: Final = 60.0
SWEEP_PAGE: Final = 1_000
_UNAVAILABLE: Final = (StoreBusyError, StoreFullError, IngestError, TimeoutError)


class Merger:
    """Merges what event files no longer need at level 0: up to the position they are synced to."""

    def __init__(
        self,
        store: Store,
        record: Callable[[Record], None],
        *,
        min_blocks: int = MIN_BLOCKS,
        slice_rows: int = SLICE_ROWS,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """`record` runs a function in a transaction of the writer and returns when it is durable."""
        self._store = store
        self._record = record
        self._min_blocks = min_blocks
        self._slice_rows = slice_rows
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._touched: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-merger", daemon=True)
        self._merges = 0
        self._blocks = 0
        self._errors = 0
        self._next_sweep = 0.0

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
        with self._lock:
            self._touched.update(item.state.id for item in done if item.receipt.stored)

    def merge_run(self, run_id: int) -> int:
        """Merge all there is to merge of a run; returns how many blocks went into it."""
        merged = 0
        while (taken := self._merge_slice(run_id)) and not self._stop.is_set():
            merged += taken
        return merged

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        return {
            "merge_slices_total": self._merges,
            "merge_blocks_total": self._blocks,
            "merge_errors_total": self._errors,
            "merge_runs_waiting": len(self._touched),
        }

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - without this thread the journal would never get smaller
                self._failed("merging waits", error)

    def _turn(self) -> None:
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_EVERY_S
            self._sweep()
        for run_id in self._take_touched():
            if self._stop.is_set():
                return
            try:
                self.merge_run(run_id)
            except _UNAVAILABLE:  # for the others too: the next sweep finds them all
                raise
            except Exception as error:  # noqa: BLE001 - one run that can't be merged must not keep the others
                self._failed(f"run {run_id} can't be merged", error)

    def _failed(self, what: str, error: Exception) -> None:
        self._errors += 1
        foreseen = isinstance(error, (StoreError, *_UNAVAILABLE))
        logger.warning("%s: %r", what, error, exc_info=None if foreseen else error)

    def _sweep(self) -> None:
        """Look at every run once in a while: what was missed, or waited for the event files, is found here."""
        after_id = 0
        while True:
            with self._store.snapshot() as view:
                heads = view.heads(after_id=after_id, limit=SWEEP_PAGE)
            if not heads:
                return
            with self._lock:
                self._touched.update(head.run_id for head in heads)
            after_id = heads[-1].run_id

    def _take_touched(self) -> set[int]:
        with self._lock:
            touched, self._touched = self._touched, set()
        return touched

    def _merge_slice(self, run_id: int) -> int:
        with self._store.snapshot() as view:
            up_to_pos = mergeable_up_to(view, run_id)
            for counter_id, attempt in view.mergeable(run_id, up_to_pos=up_to_pos, min_blocks=self._min_blocks):
                sources = view.whole_batches(
                    run_id, counter_id, attempt, up_to_pos=up_to_pos, rows_max=self._slice_rows
                )
                if len(sources) > 1:
                    break
            else:
                return 0
        merge = self._store.prepare_merge(run_id, sources)
        self._record(lambda transaction: transaction.merge(merge))
        self._merges += 1
        self._blocks += len(sources)
        return len(sources)


def mergeable_up_to(view: Snapshot, run_id: int) -> int:
    """The position up to which no event file needs level-0 blocks any more; 0 if a run has no file yet."""
    needed = [g.exported_pos for g in view.generations(run_id) if g.state in ("building", "live")]
    return min(needed, default=0)
