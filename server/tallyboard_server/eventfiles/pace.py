"""How often files grow: at the interval that was set, and less often while that takes too much of the processor."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

WINDOW_S: Final = 1.0
SHARE_MAX: Final = 0.08
"""Of one core, beyond which files grow less often: a thousand runs that report once a second then do so in threes."""
SHARE_LOW: Final = 0.03
FACTOR: Final = 1.5
INTERVAL_S_MAX: Final = 5.0
"""Nobody waits longer for a point than TensorBoard's own reload takes to come."""


class Pace:
    """The interval, set anew once a second by what the work took. clock: seconds; cpu: seconds that were worked."""

    def __init__(
        self, interval_s: float, clock: Callable[[], float], cpu: Callable[[], float] = time.thread_time
    ) -> None:
        """interval_s: the least interval, in seconds."""
        self.interval_s = interval_s
        self._least_s = interval_s
        self._most_s = max(interval_s, INTERVAL_S_MAX)
        self._clock = clock
        self._cpu = cpu
        self._since = clock()
        self._spent_s = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work is being done until the block ends."""
        begun = self._cpu()
        try:
            yield
        finally:
            now = self._clock()
            self._spent_s += self._cpu() - begun
            if now - self._since >= WINDOW_S:
                self._adapt(self._spent_s / (now - self._since))
                self._since, self._spent_s = now, 0.0

    def _adapt(self, share: float) -> None:
        if share > SHARE_MAX:
            self.interval_s = min(self._most_s, self.interval_s * FACTOR)
        elif share < SHARE_LOW:
            self.interval_s = max(self._least_s, self.interval_s / FACTOR)
