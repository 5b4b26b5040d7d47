"""The exporter's work, turn by turn: which runs are behind, what each needs, and when to sync. No thread of its own.

Per run it is one of: nothing, the tail (the journal's new blocks, written after what is there), or a new generation.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Final, Generic

from tallyboard_server.ages import Ages
from tallyboard_server.breather import Breather
from tallyboard_server.eventfiles.builder import Builder
from tallyboard_server.eventfiles.cleaner import Cleaner
from tallyboard_server.eventfiles.pace import Pace
from tallyboard_server.eventfiles.reading import Tail
from tallyboard_server.eventfiles.storage import F, Growth, Storage
from tallyboard_server.eventfiles.tagnames import TagNames, TagNamesCache
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import RunHead, Snapshot

logger = logging.getLogger(__name__)

NOTIFIED_MAX: Final = 100_000
"""Runs remembered between two turns; beyond it a sweep finds the others."""
READY_MAX: Final = 512
"""Runs looked at in one turn."""
VIEW_S: Final = 0.1
VIEW_BYTES: Final = 8 * 1024 * 1024
"""How long one read of the store lasts, and how much it takes in."""
SWEEP_PAGE: Final = 1_000

Start = tuple[F, RunState, TagNames]
"""A run that needs a new generation."""


class Engine(Generic[F]):
    """All event files of a logdir that are this process's to write.

    Only `notify`, `rebuild`, `stats`, `faults`, `warnings` and `backlog_bytes` may be called by other threads.
    """

    def __init__(self, tools: Tools, storage: Storage[F], growth: Growth[F], troubles: Troubles) -> None:
        """storage, growth: what is done, and where, once it is known what a run needs; they note in `troubles`."""
        self._tools = tools
        self._storage = storage
        self._runs: dict[int, F] = {}
        self._due: dict[int, float] = {}
        self._lag: dict[int, int] = {}
        self._lag_blocks = 0
        self._ages: Ages[int] = Ages(tools.clock)
        self._notified_ages: Ages[None] = Ages(tools.clock)
        self._names = TagNamesCache()
        self._troubles = troubles
        self._pace = Pace(tools.settings.interval_s, tools.clock)
        self._breather = Breather()
        self._growth = growth
        self._builder = Builder(tools, storage, troubles, on_live=self._went_live, on_failed=self._put_off)
        self._cleaner = Cleaner(tools, storage, troubles, self._runs)
        self._lock = threading.Lock()
        self._notified: Counter[int] = Counter()
        self._notified_blocks = 0
        self._missed = False
        self._unwanted: set[int] = set()
        self._next_sweep_at = 0.0
        self._sweep_after = 0
        self._swept: set[int] = set()
        self._version = tools.shares.version

    def notify(self, run_ids: Iterable[int]) -> None:
        """Runs that have changed, once for each change."""
        with self._lock:
            self._notified_ages.came(None)
            for run_id in run_ids:
                if run_id in self._notified or len(self._notified) < NOTIFIED_MAX:
                    self._notified[run_id] += 1
                else:
                    self._missed = True
                self._notified_blocks += 1

    def rebuild(self, run_id: int) -> None:
        """Begin a new file of a run, whatever the state of the present one."""
        with self._lock:
            self._unwanted.add(run_id)
            self._notified[run_id] += 1
            self._notified_blocks += 1

    def faults(self) -> list[str]:
        """What keeps event files from being written, as far as it is not one run's own: run and error."""
        return self._troubles.told(systemic=True)

    def warnings(self) -> list[str]:
        """What is amiss with single runs' files, in sentences."""
        found = [f"event files of {told}" for told in self._troubles.told(systemic=False)]
        for files in list(self._runs.values()):
            if (damage := files.damage) is not None:
                found.append(f"event file of {files.name}: {damage}; it is being written anew")
            found += [
                f"{files.shown(name)} is not one of ours: TensorBoard mixes it into run {files.name}; move it away"
                for name in sorted(files.foreign)
            ]
        return found

    def backlog_bytes(self) -> int:
        """About how many bytes of journal wait to be written to event files."""
        return int((self._lag_blocks + self._notified_blocks) * self._growth.mean_block_bytes)

    def exported_pos(self, run_id: int) -> int:
        """The journal position up to which a run's event file is known to be on disk; 0 if it has none."""
        files = self._runs.get(run_id)
        return files.live.exported_pos if files is not None and files.live is not None else 0

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        return {
            "export_runs": len(self._runs),
            "export_runs_behind": len(self._due) + len(self._builder),
            "export_runs_in_trouble": len(self._troubles),
            "export_lag_blocks": self._lag_blocks + self._notified_blocks,
            "export_lag_bytes": self.backlog_bytes(),
            "export_lag_seconds": max(self._ages.oldest_s(), self._notified_ages.oldest_s()),
            "export_unsynced_files": self._growth.unsynced,
            "export_bytes_total": self._growth.bytes_total,
            "export_syncs_total": self._growth.syncs_total,
            "export_sync_seconds_total": self._growth.sync_seconds_total,
            "export_generations_total": self._builder.generations_total,
            "export_repairs_total": self._builder.repairs_total,
            "export_errors_total": self._troubles.errors_total,
            "export_foreign_files": sum(len(files.foreign) for files in list(self._runs.values())),
            **self._storage.stats(),
        }

    def turn(self, *, force: bool = False) -> float:
        """Do what is due, and say when to come back: seconds, 0.0 for at once.

        force: what waits for an interval is due now (grace periods are kept). Raises StoreError, or what recording
        raised; nothing is lost by calling it again.
        """
        with self._tools.shares.working():
            self._forget_what_others_had()
            return self._turn(force)

    def _turn(self, force: bool) -> float:
        now = self._tools.clock()
        self._take_notified(now)
        self._storage.relieve(self._troubles)
        if now >= self._next_sweep_at:
            self._sweep_page(now)
        with self._pace.working():
            self._breather.begin()
            self._look_at_due(now, force)
        if len(self._builder):
            self._builder.advance()
        if self._growth.unsynced and (force or self._tools.clock() >= self._growth.next_sync_at):
            for files in self._growth.sync():
                self._put_off(files)
        if self._tools.clock() >= self._cleaner.next_at:
            self._cleaner.turn(self._forget)
        # A run that can't be written (its directory, say) must not stop the intake of all the others.
        own = self._troubles.is_own if self._storage.shared_fate else self._troubles.__contains__
        self._lag_blocks = sum(lag for run_id, lag in self._lag.items() if not own(run_id))
        return max(0.0, self._next_at() - self._tools.clock())

    def begin_sweep(self) -> None:
        """Look at every run, beginning with the next turn."""
        self._next_sweep_at, self._sweep_after = 0.0, 0
        self._swept.clear()

    @property
    def sweeping(self) -> bool:
        """Whether a sweep has more pages to go."""
        return self._sweep_after > 0 or self._next_sweep_at == 0.0

    @property
    def in_trouble(self) -> bool:
        """Whether the last attempt at some run failed."""
        return len(self._troubles) > 0

    def heads_behind(self, heads: Iterable[RunHead]) -> list[RunHead]:
        """Of runs as they were at some time, those whose event files did not get there yet and on disk."""
        return [head for head in heads if self._tools.shares.has(head.run_id) and not self._has_reached(head)]

    def close(self) -> None:
        """Close all files."""
        self._builder.close()
        self._storage.close()

    def _next_at(self) -> float:
        if len(self._builder) or self._sweep_after:
            return 0.0
        sync_at = self._growth.next_sync_at if self._growth.unsynced else float("inf")
        due_at = min(self._due.values(), default=float("inf"))
        return min(sync_at, due_at, self._next_sweep_at, self._cleaner.next_at)

    def _has_reached(self, head: RunHead) -> bool:
        files = self._runs.get(head.run_id)
        if files is None:
            return head.run_id not in self._due  # deleted meanwhile
        if files.build is not None or files.damage is not None:
            return False
        if files.live is None:
            return files.settled is not None and files.settled[0] >= head.pos
        return files.live.exported_pos >= head.pos and files.live.epoch >= head.epoch

    def _take_notified(self, now: float) -> None:
        with self._lock:
            notified, self._notified = self._notified, Counter()
            self._notified_blocks = 0
            self._notified_ages.done(None)
            if self._missed:
                self._missed = False
                self.begin_sweep()
        for run_id, changes in notified.items():
            if not self._tools.shares.has(run_id):
                continue
            self._make_due(run_id, now)
            self._lag[run_id] = self._lag.get(run_id, 0) + changes
            self._ages.came(run_id)
            self._hasten(run_id, now)

    def _hasten(self, run_id: int, now: float) -> None:
        """Do not wait for the interval with what has become large."""
        large = self._lag.get(run_id, 0) * self._growth.mean_block_bytes >= self._growth.bytes_at_once
        if large and run_id not in self._troubles and run_id in self._due:
            self._due[run_id] = now

    def _forget_what_others_had(self) -> None:
        """Shares came or went: what is known of files that another process may have written to is worth nothing."""
        if (version := self._tools.shares.version) == self._version:
            return
        self._version = version
        for run_id in list(self._runs.keys() | self._due.keys()):
            self._forget(run_id)
        self.begin_sweep()

    def _make_due(self, run_id: int, now: float) -> None:
        files = self._runs.get(run_id)
        at = max(now, files.next_export_at if files is not None else 0.0, self._troubles.retry_at(run_id))
        self._due.setdefault(run_id, at)

    def _sweep_page(self, now: float) -> None:
        """Look at the next page of runs: what nobody told us of, and files that changed behind our back."""
        with self._tools.store.snapshot() as view:
            heads = view.heads(after_id=self._sweep_after, limit=SWEEP_PAGE)
        for head in heads:
            if not self._tools.shares.has(head.run_id):
                continue
            self._swept.add(head.run_id)
            files = self._runs.get(head.run_id)
            if files is None or files.settled != (head.pos, head.epoch) or self._storage.is_due(files, head):
                self._make_due(head.run_id, now)
            if files is not None and files.build is None:
                self._inspect(files, now)
        if len(heads) == SWEEP_PAGE:
            self._sweep_after = heads[-1].run_id
            return
        for run_id in self._runs.keys() - self._swept:
            self._make_due(run_id, now)  # created since its page, or deleted: a look tells
        self._swept.clear()
        self._sweep_after = 0
        self._next_sweep_at = now + self._tools.settings.sweep_interval_s
        self._cleaner.look_for_deleted_runs()

    def _inspect(self, files: F, now: float) -> None:
        known = files.foreign
        with self._troubles.kept_to(files.run_id, files.name):
            self._storage.inspect(files)
            if files.damage is not None:
                logger.warning("event file of %s: %s; it is written anew", files.name, files.damage)
                self._make_due(files.run_id, now)
        self._tell_foreign(files, known)

    def _tell_foreign(self, files: F, known: frozenset[str]) -> None:
        for name in sorted(files.foreign - known):
            logger.warning(
                "%s is not one of ours: TensorBoard mixes it into run %s; move it away", files.shown(name), files.name
            )

    def _look_at_due(self, now: float, force: bool) -> None:
        ready = [run_id for run_id, at in self._due.items() if force or at <= now][:READY_MAX]
        while ready:
            tails, starts = self._read(ready, now, force)
            if starts:
                self._begin(starts)
            for tail, written in self._growth.write(tails, _no_rest if force else self._breather.rest):
                self._written(tail, written)

    def _read(self, ready: list[int], now: float, force: bool) -> tuple[list[Tail[F]], list[Start[F]]]:
        """Take runs from the front of `ready` and see what each needs, within one short read of the store."""
        tails: list[Tail[F]] = []
        starts: list[Start[F]] = []
        size = 0
        until = self._tools.clock() + VIEW_S
        with self._tools.store.snapshot() as view:
            while ready and size < VIEW_BYTES:
                run_id = ready.pop(0)
                state = view.load_by_id(run_id)
                if state is None:
                    self._forget(run_id)
                    self._cleaner.look_for_deleted_runs()
                else:
                    with self._troubles.kept_to(run_id, state.name) as attempt:
                        need = self._need(view, state, now, force)
                        if isinstance(need, Tail):
                            tails.append(need)
                            size += need.nbytes
                        elif need is not None and len(starts) < self._builder.room:
                            starts.append(need)
                    if attempt.failed:
                        self._due[run_id] = self._troubles.retry_at(run_id)
                if self._tools.clock() >= until:
                    break
        return tails, starts

    def _need(self, view: Snapshot, state: RunState, now: float, force: bool) -> Tail[F] | Start[F] | None:
        """What a run needs now; takes it off the due list if that is nothing, or none of this list's business."""
        files = self._runs.get(state.id)
        if files is None:
            files = self._load(view, state)
        self._lag[state.id] = state.pos - files.written_pos if files.live is not None else 0
        if files.build is not None:
            self._due.pop(state.id, None)
            return None
        if files.live is not None and self._take_unwanted(state.id):
            files.damage = "a new one was asked for"
            files.next_generation_at = now
        names = self._names.of(state)
        if files.wants_generation(state):
            if now < files.next_generation_at and not force:
                self._due[state.id] = files.next_generation_at
                return None
            return files, state, names
        if files.live is None or files.written_pos >= state.pos:
            self._settle(files, state.pos, state.epoch)
            return None
        tail = self._growth.read(view, files, state, names)
        if tail is None:
            files.damage = "the journal no longer reaches back to its end"
            logger.warning("event file of %s: %s; it is written anew", files.name, files.damage)
            return files, state, names
        return tail

    def _take_unwanted(self, run_id: int) -> bool:
        with self._lock:
            wanted_anew = run_id in self._unwanted
            self._unwanted.discard(run_id)
            return wanted_anew

    def _load(self, view: Snapshot, state: RunState) -> F:
        files = self._storage.load(view, state)
        self._runs[state.id] = files
        for generation in files.retired.values():
            self._cleaner.retire(files, generation)
        if files.build is not None:
            self._builder.adopt(files)
        if files.damage is not None:
            logger.warning("event file of %s: %s; it is written anew", files.name, files.damage)
        self._tell_foreign(files, frozenset())
        return files

    def _begin(self, starts: list[Start[F]]) -> None:
        for files, _, _ in starts:
            self._growth.forget(files)
        self._builder.begin(starts)
        for files, _, _ in starts:
            if files.build is not None:
                self._due.pop(files.run_id, None)
                self._lag[files.run_id] = 0

    def _written(self, tail: Tail[F], written: bool | None) -> None:
        files = tail.files
        if written is None:
            self._put_off(files)
            return
        now = self._tools.clock()
        if not written:
            logger.warning("event file of %s: %s; it is written anew", files.name, files.damage)
            self._due[files.run_id] = now
            return
        self._troubles.over(files.run_id, files.name)
        pos, epoch = tail.end
        self._lag[files.run_id] = pos - files.written_pos
        files.next_export_at = now + self._pace.interval_s
        if files.written_pos >= pos:
            self._settle(files, pos, epoch)
        else:
            self._due[files.run_id] = now

    def _settle(self, files: F, pos: int, epoch: int) -> None:
        files.settled = (pos, epoch)
        self._due.pop(files.run_id, None)
        self._lag.pop(files.run_id, None)
        self._ages.done(files.run_id)

    def _went_live(self, files: F) -> None:
        for generation in files.retired.values():  # what was replaced, and what became one without being live
            self._cleaner.retire(files, generation)
        self._troubles.over(files.run_id, files.name)
        self._due[files.run_id] = self._tools.clock()

    def _put_off(self, files: F) -> None:
        self._due[files.run_id] = max(self._tools.clock(), self._troubles.retry_at(files.run_id))

    def _forget(self, run_id: int) -> None:
        files = self._runs.pop(run_id, None)
        self._take_unwanted(run_id)
        self._due.pop(run_id, None)
        self._lag.pop(run_id, None)
        self._ages.done(run_id)
        self._troubles.forget(run_id)
        if files is not None:
            self._growth.forget(files)
            self._builder.forget(files)
            if files.live is not None:
                self._storage.release(files, files.live)


def _no_rest() -> None:
    """Who waits for all of it needs no rests in between."""
