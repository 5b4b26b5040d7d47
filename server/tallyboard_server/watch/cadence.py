"""How often something moves, learned from when it did, and when it has been silent for too long."""

from collections import deque
from statistics import median
from typing import Final

GAPS_KEPT: Final = 64
GAPS_MIN: Final = 8
"""Gaps from which a cadence is known."""
MEDIANS: Final = 10.0
LONGEST: Final = 2.0


class Cadence:
    """The gaps between the moves of one thing, by one clock (seconds).

    Kept are the newest GAPS_KEPT gaps, and the longest of all: what paused once for an evaluation may do so again.
    """

    __slots__ = ("_gaps", "_longest", "moved_at")

    def __init__(self, now: float) -> None:
        """`now`: when it is looked at first; silence counts from there."""
        self.moved_at = now
        self._gaps: deque[float] = deque(maxlen=GAPS_KEPT)
        self._longest = 0.0

    def move(self, now: float) -> None:
        """It moved."""
        gap = max(0.0, now - self.moved_at)
        self._gaps.append(gap)
        self._longest = max(self._longest, gap)
        self.moved_at = now

    def resume(self, now: float) -> None:
        """Begin to listen anew: what was missed is no silence."""
        self.moved_at = now

    @property
    def usual_s(self) -> float | None:
        """The median of the gaps; None: too few were seen."""
        return median(self._gaps) if len(self._gaps) >= GAPS_MIN else None

    def patience_s(self, floor_s: float) -> float | None:
        """How long it may be silent: floor_s, ten usual gaps or twice the longest, whichever is most.

        None: too little was seen.
        """
        usual = self.usual_s
        return None if usual is None else max(floor_s, MEDIANS * usual, LONGEST * self._longest)

    def silent_s(self, now: float) -> float:
        """For how long it has not moved."""
        return max(0.0, now - self.moved_at)
