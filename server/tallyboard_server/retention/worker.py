"""Retention by settings: looks at every run now and then, and prunes those whose time has come, in the background."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Final

from tallyboard_server.ingest import IngestError, RunNotFoundError
from tallyboard_server.retention.policy import Policy
from tallyboard_server.retention.pruning import Pruner
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import RunHead, StoreError

logger = logging.getLogger(__name__)

DAY_S: Final = 86_400.0
SWEEP_EVERY_S: Final = 3_600.0
SWEEP_PAGE: Final = 1_000
REST_MAX_S: Final = 0.1
"""After each group the worker rests for as long as that took, but no longer: reports go first."""
SETTLED_MAX: Final = 100_000
"""Runs of which is remembered that there was nothing more to do."""


@dataclass(slots=True, frozen=True)
class Rules:
    """How many days after a run was last heard of its superseded points, most of its points, or all of it goes.

    None: never. thin_points: to how many points a tag.
    """

    superseded_days: float | None = None
    thin_days: float | None = None
    thin_points: int = 10_000
    runs_days: float | None = None

    @property
    def any(self) -> bool:
        """Whether anything is ever to go."""
        return any(days is not None for days in (self.superseded_days, self.thin_days, self.runs_days))

    def policy(self, silent_s: float, now: float) -> Policy | None:
        """What is to go of a run that was silent for so long; None: nothing."""

        def is_due(days: float | None) -> bool:
            return days is not None and silent_s >= days * DAY_S

        if is_due(self.runs_days):
            return Policy(changed_before=now - (self.runs_days or 0.0) * DAY_S, whole=True)
        due = [days for days in (self.superseded_days, self.thin_days) if days is not None and is_due(days)]
        if not due:
            return None
        return Policy(
            changed_before=now - max(due) * DAY_S,
            superseded=is_due(self.superseded_days),
            thin=self.thin_points if is_due(self.thin_days) else None,
        )


class Worker:
    """Applies rules to all runs, again and again. Without rules it does nothing."""

    def __init__(
        self,
        pruner: Pruner,
        rules: Rules,
        *,
        interval_s: float = SWEEP_EVERY_S,
        sleep: Callable[[float], object] | None = None,
        shares: Shares = EVERYTHING,
    ) -> None:
        """sleep: waits between two groups; by default until told to stop, at most."""
        self._shares = shares
        self._pruner = pruner
        self._rules = rules
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._thread = threading.Thread(target=self._run, name="tallyboard-retention", daemon=True)
        self._settled: OrderedDict[int, tuple[float, Policy]] = OrderedDict()
        self._figures = dict.fromkeys(
            (
                "retention_sweeps_total",
                "retention_superseded_scalars_total",
                "retention_thinned_scalars_total",
                "retention_deleted_runs_total",
                "retention_errors_total",
            ),
            0,
        )

    def start(self) -> None:
        """Begin, if there are rules."""
        if self._rules.any:
            self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the group in progress."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        return dict(self._figures)

    def sweep(self) -> None:
        """Look at every run once. Raises StoreError if the runs can't be listed."""
        for head in self._heads():
            if self._stop.is_set():
                return
            if not self._shares.has(head.run_id):
                continue
            try:
                self._look_at(head)
            except RunNotFoundError:
                logger.debug("run %s was deleted before its turn", head.name)
            except Exception as error:  # noqa: BLE001 - one run that can't be pruned must not keep the others
                self._failed(f"run {head.name} can't be pruned", error)
        self._figures["retention_sweeps_total"] += 1

    def _run(self) -> None:
        while True:
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - without this thread nothing would ever go
                self._failed("retention waits", error)
            if self._stop.wait(self._interval_s):
                return

    def _heads(self) -> Iterator[RunHead]:
        after_id = 0
        while True:
            with self._pruner.store.snapshot() as view:
                heads = view.heads(after_id=after_id, limit=SWEEP_PAGE)
            if not heads:
                return
            yield from heads
            after_id = heads[-1].run_id

    def _look_at(self, head: RunHead) -> None:
        now = self._pruner.clock()
        if self._rules.policy(now - head.updated_at, now) is None:  # most runs: without loading them
            return
        with self._pruner.store.snapshot() as view:
            state = view.load_by_id(head.run_id)
        if state is None:
            return
        heard = self._pruner.last_heard(state)
        policy = self._rules.policy(now - heard, now)
        if policy is None or self._settled.get(state.id) == (heard, _without_time(policy)):
            return
        pruning = self._pruner.run(state.name, policy, dry=False)
        begun = time.monotonic()
        for _ in pruning.steps():
            if self._stop.is_set():
                break
            self._sleep(min(REST_MAX_S, time.monotonic() - begun))
            begun = time.monotonic()
        done = pruning.outcome
        self._figures["retention_superseded_scalars_total"] += done.superseded
        self._figures["retention_thinned_scalars_total"] += done.thinned
        self._figures["retention_deleted_runs_total"] += done.deleted
        if done.total:
            logger.info(
                "retention: of run %s %s", state.name,
                f"everything went, {done.scalars} scalars" if done.deleted
                else f"{done.superseded} superseded scalars went, and {done.thinned} by thinning",
            )  # fmt: skip
        elif not done.unmerged and done.skipped is None and not self._stop.is_set():
            self._settle(state.id, heard, policy)

    def _settle(self, run_id: int, heard: float, policy: Policy) -> None:
        """There was nothing to do: don't look again until something comes."""
        self._settled[run_id] = heard, _without_time(policy)
        self._settled.move_to_end(run_id)
        if len(self._settled) > SETTLED_MAX:
            self._settled.popitem(last=False)

    def _failed(self, what: str, error: Exception) -> None:
        self._figures["retention_errors_total"] += 1
        foreseen = isinstance(error, (StoreError, IngestError, FutureTimeoutError))
        logger.warning("%s: %r", what, error, exc_info=None if foreseen else error)


def _without_time(policy: Policy) -> Policy:
    return Policy(superseded=policy.superseded, thin=policy.thin, whole=policy.whole)
