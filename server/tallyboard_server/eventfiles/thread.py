"""The thread behind every exporter: turns of an engine, drains, and what is said of how it goes."""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic

from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.storage import F, Storage
from tallyboard_server.store.protocol import RunHead, Store, StoreError

logger = logging.getLogger(__name__)

_TICK_S: Final = 0.05
"""Turns are at least this far apart unless work is left over, so that runs are looked at many at a time."""
_DRAIN_PAUSE_S: Final = 0.002
_IDLE_S: Final = 1.0
_RETRY_MAX_S: Final = 30.0
_HEADS_PAGE: Final = 1_000


@dataclass(slots=True)
class _Drain:
    """A request to export everything committed so far."""

    until: float
    done: threading.Event = field(default_factory=threading.Event)
    behind: list[RunHead] | None = None


class ExporterThread(Generic[F]):
    """Keeps event files in step with a store; what they are and where is the engine's and the storage's business."""

    def __init__(self, store: Store, engine: Engine[F], storage: Storage[F], clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._engine = engine
        self._storage = storage
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._drains: list[_Drain] = []
        self._failures = 0
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name="tallyboard-exporter", daemon=True)

    def start(self) -> None:
        """Begin. OSError if there is no place for event files."""
        self._storage.prepare()
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the turn in progress and a last sync; whatever is left is caught up with at the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def notify(self, run_ids: Iterable[int]) -> None:
        """Runs that were created, have grown, were rewound or deleted: once for each commit. Quick; any thread."""
        self._engine.notify(run_ids)
        self._wake.set()

    def rebuild(self, run_id: int) -> None:
        """Write a run's event file anew under a new name, whatever the state of the present one. Any thread."""
        self._engine.rebuild(run_id)
        self._wake.set()

    def faults(self) -> list[str]:
        """Why event files do not follow the store, in sentences; none if they do."""
        if not self._thread.is_alive():
            return ["the exporter has stopped, so event files do not grow; restart the service"]
        reasons = []
        if self._failures:
            reasons.append(f"event files could not be written {self._failures} times in a row: {self._last_error}")
        if found := self._engine.faults():
            reasons.append(f"event files of {len(found)} runs can't be written; for one, {found[0]}")
        return reasons

    def warnings(self) -> list[str]:
        """What is amiss with single runs' event files, in sentences."""
        return self._engine.warnings()

    def drain(self, timeout_s: float) -> bool:
        """Export and sync all that was committed before the call, intervals or not; False if that took too long."""
        if not self._thread.is_alive():
            raise RuntimeError("the exporter does not run")
        request = _Drain(self._clock() + timeout_s)
        with self._lock:
            self._drains.append(request)
        self._wake.set()
        request.done.wait(timeout_s)
        return request.behind == []

    def backlog_bytes(self) -> int:
        """About how many bytes of journal wait to be written to event files."""
        return self._engine.backlog_bytes()

    def exported_pos(self, run_id: int) -> int:
        """The journal position up to which a run's event file is known to be on disk; 0 if it has none."""
        return self._engine.exported_pos(run_id)

    def is_alive(self) -> bool:
        """Whether the exporter runs."""
        return self._thread.is_alive()

    def stats(self) -> dict[str, float]:
        """Figures for /metrics: names as Prometheus has them, without prefix."""
        return {**self._engine.stats(), "export_failures_in_a_row": self._failures}

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.is_set():
            if self._failures:
                self._stopping.wait(min(wait_s, _IDLE_S))
            else:
                self._wake.wait(min(wait_s, _IDLE_S))
            self._wake.clear()
            wait_s = self._guarded_turn()
            self._serve_drains()
            if wait_s > 0.0:
                self._stopping.wait(_TICK_S)
        self._last_sync()
        self._engine.close()

    def _guarded_turn(self, *, force: bool = False) -> float:
        """A turn that can't end the thread: whatever fails as a whole is logged once per change and retried."""
        try:
            wait_s = self._engine.turn(force=force)
        except Exception as error:  # without this thread no event file would grow ever again
            self._failures += 1
            message = f"{type(error).__name__}: {error}"
            if message != self._last_error:
                self._last_error = message
                foreseen = isinstance(error, StoreError)
                logger.warning("event files wait: %s", message, exc_info=None if foreseen else error)
            return float(min(_RETRY_MAX_S, 0.1 * 2 ** min(self._failures, 16)))
        if self._failures:
            logger.info("event files go on")
            self._failures, self._last_error = 0, ""
        return wait_s

    def _last_sync(self) -> None:
        for request in self._take_drains():
            request.done.set()
        self._guarded_turn(force=True)

    def _take_drains(self) -> list[_Drain]:
        with self._lock:
            drains, self._drains = self._drains, []
        return drains

    def _serve_drains(self) -> None:
        for request in self._take_drains():
            try:
                behind = self._heads()
            except Exception:
                logger.exception("what to export could not be listed")
                request.done.set()
                continue
            self._engine.begin_sweep()
            while not self._stopping.is_set():
                self._guarded_turn(force=True)
                if not self._engine.sweeping:
                    behind = self._engine.heads_behind(behind)
                if not behind or self._clock() >= request.until:
                    break
                self._stopping.wait(_TICK_S if self._engine.in_trouble or self._failures else _DRAIN_PAUSE_S)
            request.behind = behind
            request.done.set()

    def _heads(self) -> list[RunHead]:
        heads: list[RunHead] = []
        while True:
            with self._store.snapshot() as view:
                page = view.heads(after_id=heads[-1].run_id if heads else 0, limit=_HEADS_PAGE)
            heads += page
            if len(page) < _HEADS_PAGE:
                return heads
