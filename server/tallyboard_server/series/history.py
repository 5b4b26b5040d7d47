"""Which steps of which attempts make up a curve: what is visible, and what it was before a rewind superseded it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tallyboard_server.model import Attempt, Counter


@dataclass(slots=True, frozen=True)
class Part:
    """A stretch of an attempt: first ≤ step ≤ last."""

    attempt: int
    first: int
    last: int


@dataclass(slots=True, frozen=True)
class History:
    """A curve's steps along one counter: parts ascend and never overlap; shown are those from step `begin` on.

    What lies before `begin` still counts for the x axes, along which nothing goes back. superseded: the attempt
    whose superseded end this is, None for what is visible.
    """

    counter: Counter
    parts: tuple[Part, ...]
    begin: int = 0
    superseded: Attempt | None = None

    def between(self, low: int, high: int) -> Iterator[Part]:
        """The parts clipped to low ≤ step ≤ high."""
        for part in self.parts:
            first, last = max(part.first, low), min(part.last, high)
            if first <= last:
                yield Part(part.attempt, first, last)


def visible_history(counter: Counter) -> History:
    """What is visible of a counter."""
    shown: list[Part] = []
    for attempt in counter.attempts:
        _begin(shown, attempt)
    return History(counter, tuple(shown))


def superseded_attempts(counter: Counter) -> list[Attempt]:
    """The attempts of which later ones hide something."""
    limits = counter.limits()
    return [attempt for attempt in counter.attempts if _is_cut(attempt, limits[attempt.number])]


def superseded_histories(counter: Counter) -> Iterator[History]:
    """What later attempts hide of each attempt, as it was shown until then: after what was visible before it.

    One at a time: each has as many parts as were visible, so all of them together take the square of the attempts.
    """
    limits = counter.limits()
    shown: list[Part] = []
    for attempt in counter.attempts:
        _begin(shown, attempt)
        limit = limits[attempt.number]
        if limit is not None and _is_cut(attempt, limit):
            yield History(counter, tuple(shown), max(limit, attempt.start), attempt)


def _is_cut(attempt: Attempt, limit: int | None) -> bool:
    return limit is not None and attempt.last_step is not None and attempt.last_step >= limit


def _begin(shown: list[Part], attempt: Attempt) -> None:
    """An attempt begins: from its start on, what was shown is hidden, and its own steps are shown."""
    while shown and shown[-1].first >= attempt.start:
        shown.pop()
    if shown and shown[-1].last >= attempt.start:
        shown[-1] = Part(shown[-1].attempt, shown[-1].first, attempt.start - 1)
    if attempt.last_step is not None and attempt.start <= attempt.last_step:
        shown.append(Part(attempt.number, attempt.start, attempt.last_step))
