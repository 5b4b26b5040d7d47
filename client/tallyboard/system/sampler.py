"""The thread that samples: every interval it reads its sources and reports what they tell, and harms nobody."""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from tallyboard.delivery.alarm import Alarm
from tallyboard.notices import Notices
from tallyboard.system.proc import Figures, Source

PREFIX: Final = "system/"
REPORT_TIMEOUT_S: Final = 0.2
"""How long the end of a run waits for a report under way: it may itself wait for what the interrupted thread holds."""


class Sampler:
    """Reads, skips or reports; `start` has a thread do so. The first figures come one interval after the start.

    ready: whether a report can be made yet; those that can't are skipped. report: takes the scalars by tag.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        ready: Callable[[], bool],
        report: Callable[[Figures], None],
        notices: Notices,
        *,
        interval_s: float,
    ) -> None:
        self._sources = sources
        self._ready = ready
        self._report = report
        self._notices = notices
        self._interval_s = interval_s
        self._alarm = Alarm()
        self._reporting = threading.Lock()
        self._ended = False

    def start(self) -> None:
        """Start the thread, a daemon: no exit waits for it."""
        try:
            threading.Thread(target=self.work, args=(self._alarm.wait,), name="tallyboard-system", daemon=True).start()
        except RuntimeError as error:  # no more threads are to be had
            self._off(error)

    def work(self, wait: Callable[[float], bool]) -> None:
        """Sample until the end. wait: whether the end came within so many seconds."""
        try:
            self._read()  # what the first figures count from
            while not wait(self._interval_s) and not self._ended:
                self._sample()
        except Exception as error:  # noqa: BLE001 - training goes on without
            self._off(error)

    def end(self) -> None:
        """Report nothing more. From any thread, and from inside signal handlers."""
        self._ended = True
        self._alarm.ring()
        if self._reporting.acquire(timeout=REPORT_TIMEOUT_S):
            self._reporting.release()

    def _sample(self) -> None:
        figures = self._read()
        with self._reporting:
            if figures and not self._ended and self._ready():
                self._report(figures)

    def _read(self) -> Figures:
        return {f"{PREFIX}{name}": value for source in self._sources for name, value in source().items()}

    def _off(self, error: Exception) -> None:
        self._notices.warn_once(
            ("system",), f"system metrics are off from here on: {type(error).__name__}: {error}; training goes on"
        )
