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
    return History(counter, _parts(counter.attempts))


def superseded_histories(counter: Counter) -> list[History]:
    """What later attempts hide of each attempt, as it was shown until then: after what was visible before it."""
    limits = counter.limits()
    found = []
    for index, attempt in enumerate(counter.attempts):
        limit = limits[attempt.number]
        if limit is None or attempt.last_step is None or attempt.last_step < limit:
            continue
        parts = _parts(counter.attempts[: index + 1])
        found.append(History(counter, parts, max(limit, attempt.start), attempt))
    return found


def _parts(attempts: tuple[Attempt, ...]) -> tuple[Part, ...]:
    """What would be visible if these were all the attempts."""
    found = []
    limit: int | None = None
    for attempt in reversed(attempts):
        if attempt.last_step is not None:
            last = attempt.last_step if limit is None else min(attempt.last_step, limit - 1)
            if attempt.start <= last:
                found.append(Part(attempt.number, attempt.start, last))
        limit = attempt.start if limit is None else min(limit, attempt.start)
    return tuple(reversed(found))
