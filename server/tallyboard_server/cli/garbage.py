"""Python's cyclic garbage, collected without long pauses.

A full collection goes through every object that may be part of a cycle, and stops the whole process meanwhile: 150
to 300 ms with the states of a thousand runs, every second or two. But what has lived for a minute mostly goes on
living. So it is frozen: taken out of what automatic collections look at. What is no part of a cycle is freed as ever;
cycles among the frozen are looked for once an hour.
"""

import gc
import threading
import time
from collections.abc import Callable
from typing import Final

FREEZE_EVERY_S: Final = 60.0
LOOK_AT_ALL_EVERY_S: Final = 3_600.0
YOUNG_MAX: Final = 10_000
"""Objects made, less those freed, from which the young are looked at: fourteen times Python's default, half a
millisecond's work."""


class Garbage:
    """Keeps collections short, on a thread of its own. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._look_at_all_at = clock() + LOOK_AT_ALL_EVERY_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-garbage", daemon=True)

    def start(self) -> None:
        """Take what is there for what stays, and begin."""
        _, older, oldest = gc.get_threshold()
        gc.set_threshold(YOUNG_MAX, older, oldest)
        gc.collect()
        gc.freeze()
        self._thread.start()

    def stop(self) -> None:
        """End; collections are what they were, but for their threshold."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        gc.unfreeze()

    def turn(self) -> None:
        """Freeze what has outlived the young; now and then look at all."""
        if self._clock() >= self._look_at_all_at:
            self._look_at_all_at = self._clock() + LOOK_AT_ALL_EVERY_S
            gc.unfreeze()
            gc.collect()
        else:
            gc.collect(1)  # what is garbage already must not be kept for an hour
        gc.freeze()

    def _run(self) -> None:
        while not self._stop.wait(FREEZE_EVERY_S):
            self.turn()
