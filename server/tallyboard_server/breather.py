"""Rests between small pieces of background work, so that whoever answers requests gets to run in between."""

import time
from collections.abc import Callable
from typing import Final

WORK_S: Final = 0.002
"""Only one thread of Python runs at a time, and each of a request's calls to the system may have to wait for the next
turn: a hundred milliseconds of work at a stretch would be felt by everybody."""
REST_RATIO: Final = 2.0
REST_S_MAX: Final = 0.01


class Breather:
    """Call `rest` between pieces of work; it returns at once until enough was done. clock: seconds; sleep: for so
    many seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._since = clock()

    def begin(self) -> None:
        """Work begins now, after a pause of its own."""
        self._since = self._clock()

    def rest(self) -> None:
        """Sleep for twice as long as was worked, if that was some milliseconds."""
        if (worked := self._clock() - self._since) >= WORK_S:
            self._sleep(min(REST_S_MAX, REST_RATIO * worked))
            self._since = self._clock()
