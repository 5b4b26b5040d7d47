"""States of runs as last committed: bounded, least recently used first out."""

import threading
from collections import OrderedDict
from typing import Final

from tallyboard_server.model import RunState

WEIGHT_MAX: Final = 200_000
"""Tags, producers and attempts held in all, roughly 300 bytes each: 60 MB."""
BASE_WEIGHT: Final = 10


class StateCache:
    """(version, state) by run id; a state is valid only for the version it was loaded or committed at."""

    def __init__(self, weight_max: int = WEIGHT_MAX) -> None:
        self._lock = threading.Lock()
        self._weight_max = weight_max
        self._weight = 0
        self._entries: OrderedDict[int, tuple[int, RunState, int]] = OrderedDict()

    def get(self, run_id: int, version: int) -> RunState | None:
        """The state of a run at exactly this version, if held."""
        with self._lock:
            entry = self._entries.get(run_id)
            if entry is None or entry[0] != version:
                return None
            self._entries.move_to_end(run_id)
            return entry[1]

    def put(self, run_id: int, version: int, state: RunState) -> None:
        """Hold a state; an older version never replaces a newer one."""
        weight = _weight(state)
        with self._lock:
            old = self._entries.get(run_id)
            if old is not None:
                if old[0] > version:
                    return
                self._weight -= old[2]
            self._entries[run_id] = (version, state, weight)
            self._entries.move_to_end(run_id)
            self._weight += weight
            while self._weight > self._weight_max and len(self._entries) > 1:
                _, (_, _, dropped) = self._entries.popitem(last=False)
                self._weight -= dropped

    def forget(self, run_id: int) -> None:
        """Drop a run's state."""
        with self._lock:
            entry = self._entries.pop(run_id, None)
            if entry is not None:
                self._weight -= entry[2]

    def __len__(self) -> int:
        return len(self._entries)


def _weight(state: RunState) -> int:
    attempts = sum(len(counter.attempts) for counter in state.counters.values())
    return BASE_WEIGHT + len(state.tags) + len(state.producers) + attempts
