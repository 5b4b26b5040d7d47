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
        step, value = self._read()
        if self._logs and (step > 0 or self._counter.moved):  # else it may yet be incremented before it is reported
            self._report(step, value)
        return value

    def log(self) -> None:
        """Report `{tag: value}` on the counter, at its value, unless this was done at that step.

        A counter that nobody has moved yet has no step of its own, only the number of reports on it: nothing is
        reported then, and it is said once.
        """
        self._report(*self._read())

    def _read(self) -> tuple[int, float]:
        """The counter's step, and the value there."""
        step, last = self._counter.value, self._last
        if step == last[0]:
            self._counter.note_reading(self._tag)
            return last
        self._last = last = step, self._schedule.at(step)
        return last

    def _report(self, step: int, value: float) -> None:
        """Report a step's value unless that was done; after a rewind it has to be done again."""
        if not self._counter.moved:
            self._counter.tell_unlogged(self._tag)  # it counts reports: one from here would move it
        elif self._logged != (stand := (self._counter.puts, step)):
            self._logged = stand
            self._counter.log({self._tag: value})

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        step = self._counter.value
        return f"<{self._schedule!r} on {self._counter.name} at {step}: {self._schedule.at(step)!r}>"
