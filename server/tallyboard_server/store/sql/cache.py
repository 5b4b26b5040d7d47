"""States of runs as last committed: bounded, least recently used first out."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tallyboard_server.model import RunMeta, RunState

WEIGHT_MAX: Final = 200_000
"""Units of roughly 300 bytes held in all: 60 MB. A tag, a producer and an attempt are one each."""
BASE_WEIGHT: Final = 10
UNIT_BYTES: Final = 300


@dataclass(slots=True, frozen=True)
class _Entry:
    """newest: put by the writer, so that no later version exists until it puts that. documents: part of weight."""

    version: int
    state: RunState
    weight: int
    documents: int
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
        with self._lock:
            old = self._entries.get(run_id)
            if old is not None and (old.version > version or (old.newest and not newest)):
                return
            documents = _documents_weight(state.meta, old)
            entry = _Entry(version, state, _weight(state) + documents, documents, newest)
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
    receipts = sum(len(producer.receipt) for producer in state.producers.values())
    return BASE_WEIGHT + len(state.tags) + len(state.producers) + attempts + receipts // UNIT_BYTES


def _documents_weight(meta: RunMeta, old: _Entry | None) -> int:
    """Of config, summary and provenance; looked through again only if one of them is another object than before."""
    documents = (meta.config, meta.summary, meta.provenance)
    if old is not None:
        known = old.state.meta
        if all(a is b for a, b in zip(documents, (known.config, known.summary, known.provenance), strict=True)):
            return old.documents
    return sum(map(_object_bytes, documents)) // UNIT_BYTES


def _object_bytes(value: object) -> int:
    """About how much memory a JSON value takes; the depth of documents is bounded by the wire."""
    if isinstance(value, Mapping):
        return 100 + sum(100 + _object_bytes(key) + _object_bytes(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return 60 + sum(8 + _object_bytes(item) for item in value)
    return 50 + len(value) if isinstance(value, str) else 32
