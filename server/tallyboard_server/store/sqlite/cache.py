"""States of runs as last committed: bounded, least recently used first out."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tallyboard_server.model import RunState

WEIGHT_MAX: Final = 200_000
"""Tags, producers and attempts held in all, roughly 300 bytes each: 60 MB."""
BASE_WEIGHT: Final = 10


@dataclass(slots=True, frozen=True)
class _Entry:
    """newest: put by the writer, so that no later version exists until it puts that."""

    version: int
    state: RunState
    weight: int
    newest: bool


class StateCache:
    """States by run id. A reader may use one of exactly the version it sees; the writer what it put itself."""

    def __init__(self, weight_max: int = WEIGHT_MAX) -> None:
        self._lock = threading.Lock()
        self._weight_max = weight_max
        self._weight = 0
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._ids: dict[str, int] = {}

    def get(self, run_id: int, version: int) -> RunState | None:
        """The state of a run at exactly this version, if held."""
        with self._lock:
            entry = self._entries.get(run_id)
            if entry is None or entry.version != version:
                return None
            self._entries.move_to_end(run_id)
            return entry.state

    def newest(self, run_id: int) -> tuple[int, RunState] | None:
        """Version and state that the writer put last, if held. For the writer: nobody else changes runs."""
        with self._lock:
            entry = self._entries.get(run_id)
            if entry is None or not entry.newest:
                return None
            self._entries.move_to_end(run_id)
            return entry.version, entry.state

    def id_of(self, name: str) -> int | None:
        """The id of the run of that name that the writer put last, if held. For the writer."""
        return self._ids.get(name)

    def put(self, run_id: int, version: int, state: RunState, *, newest: bool = False) -> None:
        """Hold a state; an older version never replaces a newer one. newest: the writer says so."""
        entry = _Entry(version, state, _weight(state), newest)
        with self._lock:
            old = self._entries.get(run_id)
            if old is not None and (old.version > version or (old.newest and not newest)):
                return
            self._drop(run_id)
            self._entries[run_id] = entry
            self._weight += entry.weight
            if newest:
                self._ids[state.name] = run_id
            while self._weight > self._weight_max and len(self._entries) > 1:
                self._drop(next(iter(self._entries)))

    def forget(self, run_id: int) -> None:
        """Drop a run's state."""
        with self._lock:
            self._drop(run_id)

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, run_id: int) -> None:
        entry = self._entries.pop(run_id, None)
        if entry is not None:
            self._weight -= entry.weight
            if self._ids.get(entry.state.name) == run_id:
                del self._ids[entry.state.name]


def _weight(state: RunState) -> int:
    attempts = sum(len(counter.attempts) for counter in state.counters.values())
    return BASE_WEIGHT + len(state.tags) + len(state.producers) + attempts
