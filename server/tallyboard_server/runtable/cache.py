"""Values of runs as they were read last: bounded, by run and version, so that only runs that changed are read again."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tallyboard_server.model import RunState

WEIGHT_MAX: Final = 1_000_000
"""Units of roughly 64 bytes held in all: 64 MB, which is 30,000 runs with twenty numbers each."""
_BASE_WEIGHT: Final = 12
_UNIT_BYTES: Final = 64


@dataclass(slots=True, frozen=True)
class Known:
    """What is known of a run at a version of its state: its pulse, and values by their columns' text.

    Never changed; a new one takes its place.
    """

    version: int
    pulse: RunState
    values: Mapping[str, Any]
    weight: int


class ValueCache:
    """Known values by run id; the least recently used run goes first. Any thread may call."""

    def __init__(self, weight_max: int = WEIGHT_MAX) -> None:
        self._lock = threading.Lock()
        self._weight_max = weight_max
        self._weight = 0
        self._runs: OrderedDict[int, Known] = OrderedDict()

    def get(self, run_id: int, version: int) -> Known | None:
        """What is known of a run at exactly this version."""
        with self._lock:
            known = self._runs.get(run_id)
            if known is None or known.version != version:
                return None
            self._runs.move_to_end(run_id)
            return known

    def put(self, run_id: int, version: int, pulse: RunState, values: Mapping[str, Any]) -> Known:
        """Keep values; those known already at the same version stay, an older version never replaces a newer one."""
        with self._lock:
            old = self._runs.get(run_id)
            if old is not None and old.version == version:
                known = Known(version, old.pulse, {**old.values, **values}, old.weight + _weight(values))
            else:
                known = Known(version, pulse, dict(values), _BASE_WEIGHT + _weight(values))
            if old is None or old.version <= version:
                self._runs[run_id] = known
                self._runs.move_to_end(run_id)
                self._weight += known.weight - (old.weight if old is not None else 0)
                while self._weight > self._weight_max and len(self._runs) > 1:
                    self._weight -= self._runs.popitem(last=False)[1].weight
            return known

    def __len__(self) -> int:
        return len(self._runs)


def _weight(values: Mapping[str, Any]) -> int:
    return sum(1 if isinstance(value, (int, float)) or value is None else _large(value) for value in values.values())


def _large(value: Any) -> int:
    size = len(value) if isinstance(value, str) else 4 * len(msgspec.json.encode(value))
    return 1 + size // _UNIT_BYTES
