"""The recorder of a run that reports nothing: counters count as ever, so that all ranks of a job see the same."""

from collections.abc import Callable, Mapping
from typing import Any

from tallyboard.collect.blobs import PendingBlob
from tallyboard.collect.recorder import Recorder
from tallyboard.collect.reports import as_step
from tallyboard.collect.routing import Router
from tallyboard.collect.sections import Discarded
from tallyboard.collect.stats import Tally
from tallyboard.collect.tracking import CounterState
from tallyboard.errors import InvalidReportError
from tallyboard.notices import Notices
from tallyboard.wire import InvalidNameError, Level


class DisabledRecorder(Recorder):
    """Moves counters, keeps nothing, and never complains."""

    def __init__(self, *, router: Router, notices: Notices, tally: Tally, resumed: bool = False) -> None:
        """resumed: see Counters; nobody will say what another process counted."""
        super().__init__(
            Discarded(tally, _nothing), router=router, strict=False, clock=_no_time, notices=notices, tally=tally,
            resumed=resumed,
        )  # fmt: skip

    def log(
        self,
        scalars: Mapping[str, Any],
        step: int | None,
        counter: str | None,
        at: Mapping[str, int] | None,
        wall_time: float | None,
    ) -> None:
        """Move the counters that the report would have moved."""
        try:
            with self._lock:
                number = 0 if step is None else as_step(step)
                for name, _ in self._router.split(tuple(scalars), counter):
                    state = self._counters.get(name)
                    if step is not None:
                        state.moved = True
                        state.value = max(state.value, number)
                    elif not (state.moved or state.implicit):
                        state.value += 1
                    state.last = max(state.last, state.value)
                    state.active = True
        except (TypeError, InvalidReportError, InvalidNameError):
            return  # what a reporting rank is warned about

    def log_single(self, tag: str, value: Any, step: Any) -> bool:
        """Leave it to `log`."""
        return False

    def note_reading(self, state: CounterState, reader: str) -> None:
        """Leave it to the rank that reports."""

    def _check_place(self, state: CounterState, number: int, *, told: bool) -> None:
        """The same."""

    def log_blob(
        self,
        tag: object,
        make: Callable[[], PendingBlob],
        step: object,
        counter: str | None,
        at: Mapping[str, int] | None,
        wall_time: object,
    ) -> None:
        """Move the counter that the report would have moved."""
        self.log({str(tag): 0.0}, step, counter, at, None)  # type: ignore[arg-type]

    def tell_unlogged(self, state: CounterState, tag: str) -> None:
        """Leave it to a rank that reports."""

    def alert(self, title: str, text: str, level: Level) -> None:
        """Say nothing."""


def _no_time() -> float:
    return 0.0


def _nothing() -> None:
    return None
