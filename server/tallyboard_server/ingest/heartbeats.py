"""When each run was last heard of, by the server's clock; kept out of the transactions, lost with the process."""

import threading
from collections import OrderedDict
from typing import Final

RUNS_MAX: Final = 100_000


class Heartbeats:
    """Last signs of life by run name; the longest silent are forgotten first."""

    def __init__(self, runs_max: int = RUNS_MAX) -> None:
        self._lock = threading.Lock()
        self._runs_max = runs_max
        self._last: OrderedDict[str, float] = OrderedDict()

    def beat(self, run: str, now: float) -> None:
        """The run is alive at `now` (seconds since the epoch)."""
        with self._lock:
            self._last[run] = now
            self._last.move_to_end(run)
            if len(self._last) > self._runs_max:
                self._last.popitem(last=False)

    def last_seen(self, run: str) -> float | None:
        """When it last beat, if that is known."""
        with self._lock:
            return self._last.get(run)
