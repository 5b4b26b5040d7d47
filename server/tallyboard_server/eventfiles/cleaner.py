"""Removes event files that are no longer wanted: replaced ones after their grace period, those of deleted runs."""

import heapq
import logging
from collections.abc import Callable
from typing import Final, Generic

from tallyboard_server.eventfiles.storage import F, Storage
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.store.protocol import Generation, Snapshot, Transaction

logger = logging.getLogger(__name__)

_BATCH_MAX: Final = 256
"""Files removed in one turn."""
_RETRY_S: Final = 10.0


class Cleaner(Generic[F]):
    """Only files that were recorded are ever removed, and directories only when they are empty."""

    def __init__(self, tools: Tools, storage: Storage[F], troubles: Troubles, runs: dict[int, F]) -> None:
        """`runs` is the exporter's own, by run id."""
        self._tools = tools
        self._storage = storage
        self._troubles = troubles
        self._runs = runs
        self._expiring: list[tuple[float, int, int]] = []
        self._leaving: dict[int, float] = {}
        self._check_deleted_at: float | None = 0.0

    def retire(self, files: F, generation: Generation) -> None:
        """Remove a replaced file when its grace period, which began at its changed_at, is over."""
        at = self._tools.clock() + self._grace_left_s(generation)
        heapq.heappush(self._expiring, (at, files.run_id, generation.number))

    def look_for_deleted_runs(self) -> None:
        """A run was deleted, or may have been."""
        self._check_deleted_at = 0.0

    @property
    def next_at(self) -> float:
        """When there is something to do (monotonic clock)."""
        deleted_at = float("inf") if self._check_deleted_at is None else self._check_deleted_at
        return min(deleted_at, self._expiring[0][0] if self._expiring else float("inf"))

    def turn(self, forget: Callable[[int], None]) -> None:
        """Remove what is due. `forget` is called with a deleted run's id before its files go."""
        now = self._tools.clock()
        self._remove_expired(now)
        if self._check_deleted_at is not None and now >= self._check_deleted_at:
            self._remove_deleted(now, forget)

    def _remove_expired(self, now: float) -> None:
        removed: list[tuple[F, Generation]] = []
        while self._expiring and self._expiring[0][0] <= now and len(removed) < _BATCH_MAX:
            _, run_id, number = heapq.heappop(self._expiring)
            files = self._runs.get(run_id)
            generation = files.retired.get(number) if files is not None else None
            if files is None or generation is None:
                continue
            with self._troubles.kept_to(run_id, files.name) as attempt:
                if self._storage.may_go(files, generation):
                    self._storage.remove(files.name, [generation])
                    removed.append((files, generation))
                else:
                    heapq.heappush(self._expiring, (now + _RETRY_S, run_id, number))
            if attempt.failed:
                heapq.heappush(self._expiring, (now + _RETRY_S, run_id, number))
        if not removed:
            return
        for files, generation in removed:  # should the record fail: removing twice does no harm
            heapq.heappush(self._expiring, (now + _RETRY_S, files.run_id, generation.number))

        def work(transaction: Transaction) -> None:
            for files, generation in removed:
                transaction.drop_generation(files.run_id, generation.number)

        self._tools.record(work)
        for files, generation in removed:
            files.retired.pop(generation.number, None)

    def _remove_deleted(self, now: float, forget: Callable[[int], None]) -> None:
        """Files of deleted runs go at once; if a run has that name again, once its own file took their place."""
        self._check_deleted_at = None
        with self._tools.store.snapshot() as view:
            found = [
                (run_id, name, view.generations(run_id), self._may_go_at(view, run_id, name, now))
                for run_id, name in self._deleted(view)
            ]
        gone: list[Generation] = []
        for run_id, name, generations, may_go_at in found:
            if may_go_at > now:
                self._check_again(may_go_at)
                continue
            forget(run_id)
            with self._troubles.kept_to(run_id, name) as attempt:
                self._storage.remove_all(name, generations)
                gone += generations
                self._leaving.pop(run_id, None)
                self._troubles.forget(run_id)
            if attempt.failed:
                self._check_again(now + _RETRY_S)
        if len(found) == _BATCH_MAX:
            self._check_again(now)
        if gone:
            self._drop(gone, now)

    def _drop(self, gone: list[Generation], now: float) -> None:
        def work(transaction: Transaction) -> None:
            for generation in gone:
                transaction.drop_generation(generation.run_id, generation.number)

        try:
            self._tools.record(work)
        except BaseException:
            self._check_again(now + _RETRY_S)
            raise

    def _deleted(self, view: Snapshot) -> list[tuple[int, str]]:
        """(id, name) of deleted runs whose files are ours to remove, some at a time."""
        shares = self._tools.shares
        return [(run_id, name) for run_id, name in view.deleted_run_ids() if shares.has(run_id)][:_BATCH_MAX]

    def _may_go_at(self, view: Snapshot, run_id: int, name: str, now: float) -> float:
        """When a deleted run's files may go (monotonic clock).

        The Python reader hangs on a file that is removed under it, and recovers only with the directory: where a
        run of the same name follows, the old files stay for the grace period, as replaced ones do. (A limit: a Rust
        reader that runs through both keeps old points of tags that the new run does not have, until its restart.)
        """
        again = view.load(name)
        if again is None:
            return now
        files = self._runs.get(again.id)
        if files is None or files.live is None:
            return self._leaving.setdefault(run_id, now + self._tools.settings.grace_s)
        return now + self._grace_left_s(files.live)

    def _grace_left_s(self, since: Generation) -> float:
        """What is left of the grace period that began at the generation's changed_at (0 to grace_s)."""
        grace_s = self._tools.settings.grace_s
        return min(grace_s, max(0.0, since.changed_at + grace_s - self._tools.wall()))

    def _check_again(self, at: float) -> None:
        known = self._check_deleted_at
        self._check_deleted_at = at if known is None else min(at, known)
