"""Reading a run in snapshots that are never held for long."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Final, Protocol, Self

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import AlertCount, Block, RunState
from tallyboard_server.series.question import HistoryChangedError
from tallyboard_server.store.envelope import Cells
from tallyboard_server.store.protocol import Snapshot

HOLD_S: Final = 0.1
"""After so long a snapshot is exchanged for a new one before the next read; a single read takes tens of ms."""


class Source(Protocol):
    """What a snapshot can tell of a run's points; see store.protocol.Snapshot."""

    def cells(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
        rows_max: int = 1,
        at: int | None = None,
    ) -> dict[int, Cells]:
        """See Snapshot.cells."""
        ...

    def points_at_most(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> dict[int, int]:
        """See Snapshot.points_at_most."""
        ...

    def blocks(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        *,
        tag_id: int | None = None,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> Iterator[Block]:
        """See Snapshot.blocks."""
        ...

    def axes(
        self, run_id: int, counter_id: int, attempt: int, *, first_step: int = 0, last_step: int = 2**63 - 1
    ) -> Iterator[tuple[Int64, Float64]]:
        """See Snapshot.axes."""
        ...

    def refused_count(self, run_id: int) -> int:
        """See Snapshot.refused_count."""
        ...

    def alert_count(self, run_id: int) -> AlertCount:
        """See Snapshot.alert_count."""
        ...

    def incident_kinds(self, run_id: int) -> list[str]:
        """See Snapshot.incident_kinds."""
        ...


class RunReader:
    """A Source of one run whose snapshot is renewed when it has been held for hold_s.

    Between snapshots a run may grow at its end, which readers don't see who go by `state`. If its visible history
    changed otherwise, or the run was deleted, HistoryChangedError is raised. hold_s None: one snapshot throughout.
    """

    def __init__(
        self,
        snapshot: Callable[[], AbstractContextManager[Snapshot]],
        *,
        hold_s: float | None = HOLD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot = snapshot
        self._hold_s = hold_s
        self._clock = clock
        self._held = ExitStack()
        self._since = 0.0
        self._view: Snapshot | None = None
        self._state: RunState | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view = None
        self._held.close()

    def load(self, name: str) -> RunState | None:
        """The run's state, which all later reads belong to; None if there is no such run."""
        self._state = self._opened().load(name)
        return self._state

    def load_version(self, name: str) -> tuple[RunState, int] | None:
        """As `load`, with the version of the state."""
        state = self.load(name)
        found = self._opened().run_versions(prefix=name, limit=1)
        return None if state is None else (state, found[0].version)

    def cells(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
        rows_max: int = 1,
        at: int | None = None,
    ) -> dict[int, Cells]:
        """See Snapshot.cells."""
        return self._fresh().cells(
            run_id, counter_id, attempt, tag_ids, first_step=first_step, last_step=last_step, rows_max=rows_max, at=at
        )

    def points_at_most(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> dict[int, int]:
        """See Snapshot.points_at_most."""
        return self._fresh().points_at_most(
            run_id, counter_id, attempt, tag_ids, first_step=first_step, last_step=last_step
        )

    def blocks(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        *,
        tag_id: int | None = None,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> Iterator[Block]:
        """See Snapshot.blocks; to be read before anything else is."""
        return self._fresh().blocks(
            run_id, counter_id, attempt, tag_id=tag_id, first_step=first_step, last_step=last_step
        )

    def axes(
        self, run_id: int, counter_id: int, attempt: int, *, first_step: int = 0, last_step: int = 2**63 - 1
    ) -> Iterator[tuple[Int64, Float64]]:
        """See Snapshot.axes; to be read before anything else is."""
        return self._fresh().axes(run_id, counter_id, attempt, first_step=first_step, last_step=last_step)

    def refused_count(self, run_id: int) -> int:
        """See Snapshot.refused_count."""
        return self._fresh().refused_count(run_id)

    def alert_count(self, run_id: int) -> AlertCount:
        """See Snapshot.alert_count."""
        return self._fresh().alert_count(run_id)

    def incident_kinds(self, run_id: int) -> list[str]:
        """See Snapshot.incident_kinds."""
        return self._fresh().incident_kinds(run_id)

    def _fresh(self) -> Snapshot:
        if self._hold_s is not None and self._clock() - self._since > self._hold_s:
            self._view = None
            self._held.close()
            self._open()
            state = self._state
            if state is not None:
                head = self._opened().head(state.id)
                if head is None or head.epoch != state.epoch:
                    raise HistoryChangedError(f"run {state.name!r} changed while it was read")
        return self._opened()

    def _open(self) -> None:
        self._view = self._held.enter_context(self._snapshot())
        self._since = self._clock()

    def _opened(self) -> Snapshot:
        if self._view is None:
            raise RuntimeError("to be used in a with block")
        return self._view
