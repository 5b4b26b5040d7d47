"""Since when things wait: how far, in seconds, what follows the store is behind it."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)


class Ages(Generic[_K]):
    """Things that wait, each since it first came. Any thread. clock: seconds, any beginning."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[_K, float] = {}

    def came(self, key: _K) -> None:
        """A thing waits from now on, if it does not already."""
        with self._lock:
            self._since.setdefault(key, self._clock())

    def done(self, key: _K) -> None:
        """A thing waits no more."""
        with self._lock:
            self._since.pop(key, None)

    def oldest_s(self) -> float:
        """How long the one that came first has waited; 0.0 if none waits."""
        with self._lock:
            for since in self._since.values():  # in the order in which they came
                return max(0.0, self._clock() - since)
        return 0.0
