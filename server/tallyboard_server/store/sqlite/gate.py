"""The reader gate: lets readers in, and keeps new ones out while the writer truncates its log."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tallyboard_server.store.protocol import StoreBusyError

ENTER_TIMEOUT_S: Final = 10.0


class ReaderGate:
    """Counts readers. SQLite can't reset its write-ahead log while any reader holds an old view of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Be counted as a reader; waits while the gate is closed, and raises StoreBusyError if that takes long."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._closed, ENTER_TIMEOUT_S):
                raise StoreBusyError("the store is trimming its log; retry")
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def closed(self, timeout_s: float) -> Iterator[int]:
        """Keep new readers out; yields how many are still inside after timeout_s, or as soon as there are none."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._readers == 0, timeout_s)
            inside = self._readers
        try:
            yield inside
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
