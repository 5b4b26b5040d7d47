"""The forgotten increment: a counter that never moves, though reports or readings keep coming at it."""

from typing import TYPE_CHECKING, Final

from tallyboard.collect.complaints import Complaints
from tallyboard.collect.counters import Counters
from tallyboard.collect.tracking import CounterState, Violation

if TYPE_CHECKING:
    from tallyboard.collect.lanes import Lane

TIMES_MAX: Final = 10
"""Reports, or readings of one reader, in a row; then the person who trains is asked."""
READERS_MAX: Final = 1_000
"""Readers that are remembered; a run with more of them starts again with none."""
_AT_ONE_STEP: Final = frozenset({"tag_repeated", "step_decreased"})
"""Why reports are refused that come at a counter which does not move."""

Row = tuple[int, int, tuple[int, ...]]
"""Times; how often the counter had been put; where the others were."""


class Standing:
    """Guarded by the recorder's lock; a signal handler that comes between costs a report or reading of the count.

    A row ends when the counter moves (from where it began, or was last put: then for good), when a report brings a new
    tag, and when another counter moves: one of epochs stands still for as long as the steps of an epoch take, and
    nobody has forgotten it.
    """

    def __init__(self, counters: Counters, complaints: Complaints) -> None:
        self._counters = counters
        self._complaints = complaints
        self._readings: dict[tuple[str, str], Row] = {}

    def repeated(self, state: CounterState, step: int) -> None:
        """A report brought nothing that was not there."""
        if step != state.value or not (state.stands and state.accompanies):
            return
        others = self._counters.beside(state)
        times, stood = state.idle
        if stood is None:  # the first that repeats: with the one that brought the tags, if there was one, it makes two
            times = 1 if step == state.reached[0] else 0
        elif stood != others:
            times = 0
        state.idle = times + 1, others
        if times + 1 >= TIMES_MAX:
            self._complaints.stands(state, f"{TIMES_MAX} reports")

    def refused(self, state: CounterState, step: int, lane: "Lane", violation: Violation) -> None:
        """A report was refused."""
        if violation.reason in _AT_ONE_STEP and state.holds(step, lane):
            self.repeated(state, step)

    def read(self, state: CounterState, reader: str) -> None:
        """Somebody who expects a counter to move has read it."""
        if not state.stands:
            return
        key, others = (state.name, reader), self._counters.beside(state)
        times, puts, stood = self._readings.get(key, (0, 0, ()))
        times = times + 1 if (puts, stood) == (state.puts, others) else 1
        if len(self._readings) >= READERS_MAX:
            self._readings.clear()
        self._readings[key] = times, state.puts, others
        if times >= TIMES_MAX:
            self._complaints.stands(state, f"{TIMES_MAX} readings of {reader}")
