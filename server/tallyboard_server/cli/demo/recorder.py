"""A run that notes what a training reports before the client gets it: the demo's record of what was sent."""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import tallyboard

Points = dict[int, float]
"""The value at each step."""


@dataclass(slots=True)
class Sent:
    """Everything a run reported: points by counter and tag."""

    points: dict[tuple[str, str], Points] = field(default_factory=dict)

    def note(self, counter: str, step: int, scalars: Mapping[str, float]) -> None:
        """Add one report."""
        for tag, value in scalars.items():
            self.points.setdefault((counter, tag), {})[step] = value


class RecordedCounter:
    """A counter that keeps its own value beside the client's."""

    def __init__(self, run: "RecordedRun", counter: tallyboard.Counter) -> None:
        self._run = run
        self._counter = counter
        self.name = counter.name
        self.value = 0

    def increment(self, by: int = 1) -> int:
        """As tallyboard.Counter.increment."""
        self.value += by
        self._counter.increment(by)
        return self.value

    def every(self, n: int) -> bool:
        """As tallyboard.Counter.every."""
        return self._counter.every(n)

    def log(self, scalars: Mapping[str, float]) -> None:
        """As tallyboard.Counter.log."""
        self._run.sent.note(self.name, self.value, scalars)
        self._counter.log(scalars)
        self._run.pause()


class RecordedRun:
    """As much of tallyboard.Run as the example trainings use.

    counters: which counter the tags that match a pattern belong to, as given to tallyboard.init.
    pause_s: seconds to wait after each report, so that people can watch curves grow.
    """

    def __init__(self, run: tallyboard.Run, counters: Mapping[str, str], pause_s: float = 0.0) -> None:
        self._run = run
        self._patterns = dict(counters)
        self._pause_s = pause_s
        self._counters: dict[str, RecordedCounter] = {}
        self.summary = run.summary
        self.sent = Sent()

    def counter(self, name: str, total: int | None = None) -> RecordedCounter:
        """As tallyboard.Run.counter."""
        if name not in self._counters:
            self._counters[name] = RecordedCounter(self, self._run.counter(name, total=total))
        return self._counters[name]

    def log(self, scalars: Mapping[str, float]) -> None:
        """As tallyboard.Run.log without a step: each tag's own counter says where it stands."""
        by_counter: dict[str, dict[str, float]] = defaultdict(dict)
        for tag, value in scalars.items():
            by_counter[self._counter_of(tag)][tag] = value
        for name, part in by_counter.items():
            self.sent.note(name, self._counters[name].value, part)
        self._run.log(scalars)
        self.pause()

    def pause(self) -> None:
        """Wait as long as was asked for."""
        if self._pause_s:
            time.sleep(self._pause_s)

    def _counter_of(self, tag: str) -> str:
        for pattern, counter in self._patterns.items():
            if fnmatchcase(tag, pattern):
                return counter
        return "global_step"
