"""What is known of runs, kept as long as it holds: by run and version, bounded, least recently used first out."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(slots=True, frozen=True)
class _Known(Generic[_T]):
    version: int
    value: _T
    weight: int


class PerRun(Generic[_T]):
    """Values by run id, each of one version of the run's state. Any thread may call."""

    def __init__(self, weight_max: int) -> None:
        """weight_max: of all values together, in the units of `put`."""
        self._lock = threading.Lock()
        self._weight_max = weight_max
        self._weight = 0
        self._runs: OrderedDict[int, _Known[_T]] = OrderedDict()

    def get(self, run_id: int, version: int) -> _T | None:
        """The value at exactly this version."""
        with self._lock:
            known = self._runs.get(run_id)
            if known is None or known.version != version:
                return None
            self._runs.move_to_end(run_id)
            return known.value

    def put(self, run_id: int, version: int, value: _T, weight: int) -> None:
        """Keep a value in the place of the one of another version."""
        with self._lock:
            if (old := self._runs.pop(run_id, None)) is not None:
                self._weight -= old.weight
            self._runs[run_id] = _Known(version, value, weight)
            self._weight += weight
            while self._weight > self._weight_max and len(self._runs) > 1:
                self._weight -= self._runs.popitem(last=False)[1].weight

    def __len__(self) -> int:
        return len(self._runs)
