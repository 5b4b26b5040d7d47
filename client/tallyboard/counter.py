"""The step counter as trainers know it: it starts at 0 and is 1 after the first update."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tallyboard.collect.recorder import Recorder
from tallyboard.collect.reports import as_step
from tallyboard.collect.tracking import CounterState
from tallyboard.errors import ConfigurationError, InvalidReportError
from tallyboard.progress import Bar, open_bar
from tallyboard.wire import limits

Item = TypeVar("Item")


class Counter:
    """A named step counter of a run; get one from `run.counter(name)`. Thread-safe."""

    def __init__(self, recorder: Recorder, state: CounterState, *, quiet: bool = False) -> None:
        """quiet: show no bars."""
        self._recorder = recorder
        self._state = state
        self._told: dict[int, tuple[int, int]] = {}
        self._puts = state.puts
        self._quiet = quiet
        self._bar = Bar()
        self._own_total: int | None = None

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

    @property
    def moved(self) -> bool:
        """Whether it was moved (by `increment`, `set` or a step); until then it counts the reports."""
        return self._state.moved

    @property
    def puts(self) -> int:
        """How often it was put elsewhere, by a rewind or a resume."""
        return self._state.puts

    def tell_unlogged(self, tag: str) -> None:
        """Say once that a schedule is not reported, as `tag`, because nobody has moved the counter."""
        self._recorder.tell_unlogged(self._state, tag)

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

        Asked again before the counter moves, the answer is the same: all who ask for one n share it. After a resume or
        a rewind to 137, `every(100)` is next true at 201; `set` passes what lies between, as `increment` does. Raises
        ValueError unless n is at least 1.
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

    def log_every(self, n: int, scalars: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> bool:
        """`log` at the steps of `every(n)`. Returns whether it did.

        scalars: or a function that makes them, which is called at these steps alone. Raises ValueError unless n is at
        least 1, and what the function raises.
        """
        if not self.every(n):
            return False
        self.log(scalars() if callable(scalars) else scalars)
        return True

    def track(self, iterable: Iterable[Item], total: int | None = None) -> Iterator[Item]:
        """Go through something, an increment per item: the loop's body has the first at 1, and reports it there.

        On a terminal (stderr) a bar shows where the counter stands; of several ranks, rank 0's alone. total: how many
        items there are, of what has no len(). The counter's own total becomes the value at the end, unless a larger one
        was given to `run.counter`. A counter has one bar: going through something else with it takes that. Raises
        ConfigurationError for a total that is none, TypeError for what can't be gone through.
        """
        count = _length(iterable) if total is None else checked_total(total)
        return self._tracked(iter(iterable), count)

    def _tracked(self, items: Iterator[Item], count: int | None) -> Iterator[Item]:
        goal = None if count is None else min(self.value + count, limits.STEP_MAX)
        if goal is not None and (self.total in (None, self._own_total) or goal > (self.total or 0)):
            self._own_total = goal
            if goal != self.total:
                self._recorder.set_total(self.name, goal)
        self.close_bar()
        self._bar = bar = Bar() if self._quiet else open_bar(self.name, self.value, goal)
        try:
            for item in items:
                bar.show(self.increment())
                yield item
        finally:
            bar.close()

    def close_bar(self) -> None:
        """Take away the bar of a loop that was left by an exception whose traceback still holds it."""
        self._bar.close()

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


def _length(iterable: Iterable[Any]) -> int | None:
    try:
        return len(iterable)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - most have none, and some loaders raise what they like
        return None
