"""A schedule that reads its step from a counter."""

from typing import TYPE_CHECKING, Final

from tallyboard.collect.reports import as_tag
from tallyboard.counter import Counter
from tallyboard.errors import ConfigurationError, InvalidReportError

if TYPE_CHECKING:
    from tallyboard.schedules.schedule import Schedule

LEARNING_RATE: Final = "learning_rate"
_NEVER: Final = (-1, 0.0)


class Bound:
    """A schedule's value where a counter stands, read after the increment: step 1 has the first value, f(1).

    Get one from `schedule.bind(counter)`. `float(bound)` is its value, so `run.log({"lr": bound})` takes it as it is.
    """

    __slots__ = ("_counter", "_last", "_logged", "_logs", "_schedule", "_tag")

    def __init__(self, schedule: "Schedule", counter: Counter, tag: str, log: bool) -> None:
        try:
            self._tag = as_tag(tag)
        except InvalidReportError as error:
            raise ConfigurationError(f"tag: {error}") from error
        self._schedule = schedule
        self._counter = counter
        self._logs = log
        self._last: tuple[int, float] = _NEVER  # in one piece, for readers in other threads
        self._logged = (-1, -1)

    @property
    def value(self) -> float:
        """The schedule's value at the counter's step; read over and over at one step it is worked out once."""
        step = self._counter.value
        known, value = self._last
        if step == known:
            self._counter.note_reading(self._tag)
        else:
            value = self._schedule.at(step)
            self._last = step, value
        if self._logs:
            self._log_first(step, value)
        return value

    def log(self) -> None:
        """Report `{tag: value}` on the counter, at its value.

        A counter that nobody has moved yet has no step of its own, only the number of reports on it: nothing is
        reported then, and it is said once.
        """
        step, value = self._counter.value, float(self)
        if not self._counter.moved:
            self._counter.tell_unmoved_log()
        elif (self._counter.puts, step) != self._logged:
            self._counter.log({self._tag: value})

    def _log_first(self, step: int, value: float) -> None:
        """Report a step's value unless that was done; after a rewind it has to be done again."""
        stand = (self._counter.puts, step)
        if stand == self._logged:
            return
        if self._counter.moved:
            self._logged = stand
            self._counter.log({self._tag: value})
        elif step > 0:  # it counts reports: one from here would move it
            self._counter.tell_unmoved_log()

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        step = self._counter.value
        return f"<{self._schedule!r} on {self._counter.name} at {step}: {self._schedule.at(step)!r}>"
