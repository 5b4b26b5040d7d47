"""The step counter as trainers know it: it starts at 0 and is 1 after the first update."""

from collections.abc import Mapping
from typing import Any

from tallyboard.collect.recorder import Recorder
from tallyboard.collect.reports import as_step
from tallyboard.collect.tracking import CounterState
from tallyboard.errors import ConfigurationError, InvalidReportError


class Counter:
    """A named step counter of a run; get one from `run.counter(name)`. Thread-safe."""

    def __init__(self, recorder: Recorder, state: CounterState) -> None:
        self._recorder = recorder
        self._state = state
        self._told: dict[int, tuple[int, int]] = {}
        self._puts = state.puts

    @property
    def name(self) -> str:
        """Its name."""
        return self._state.name

    @property
    def value(self) -> int:
        """The step at which the job is."""
        return self._state.value

    @property
    def total(self) -> int | None:
        """The step that it is expected to reach, if someone said so."""
        return self._state.total

    def increment(self, by: int = 1) -> int:
        """Move on, once per update. Returns the new value."""
        self._recorder.move(self._state, by)
        return self._state.value

    def set(self, step: int) -> None:
        """Move to a step. Going back is no rewind: reports at lower steps are refused (see `run.rewind`)."""
        self._recorder.move(self._state, None, step)

    def log(self, scalars: Mapping[str, Any]) -> None:
        """`run.log` against this counter, at its value."""
        self._recorder.log(scalars, None, self._state.name, None, None)

    def every(self, n: int) -> bool:
        """Whether the value has reached or passed the next of 1, n+1, 2n+1, … since this was last true.

        Asked again before the counter moves, the answer is the same. After a resume at 137, `every(100)` is next
        true at 201. Raises ValueError unless n is at least 1.
        """
        if n < 1:
            raise ValueError(f"every({n}): n counts steps, at least 1")
        value = self._state.value
        if self._puts != self._state.puts:  # it was put elsewhere: nothing was passed on the way
            self._puts = self._state.puts
            self._told = {}
        period = (value - 1) // n
        last_period, told_at = self._told.get(n, ((self._state.origin - 1) // n, -1))
        if value == told_at:
            return True
        if period > last_period:
            self._told[n] = (period, value)
            return True
        return False

    def note_reading(self, reader: str) -> None:
        """Tell that somebody (a schedule's name) reads the value and expects it to have moved since, once per update.

        At the tenth in a row of one reader, while the counter stands where it began (or was last put) and the run's
        other counters stand, too, the person who trains is asked, once, whether the counter is being incremented.
        """
        if self._state.stands:
            self._recorder.note_reading(self._state, reader)

    def __index__(self) -> int:
        return self._state.value

    def __repr__(self) -> str:
        return f"Counter({self.name!r}, value={self.value})"


def checked_total(total: object) -> int:
    """The step that a counter is expected to reach. Raises ConfigurationError if it is none."""
    try:
        return as_step(total)
    except InvalidReportError as error:
        raise ConfigurationError(f"total: {error}") from error
