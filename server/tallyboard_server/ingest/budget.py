"""The byte budget: how much request data may be in memory at once, taken before a body is read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tallyboard_server.ingest.errors import OverloadedError

RETRY_AFTER_S: Final = 1.0


class ByteBudget:
    """Counts bytes of requests from before they are read until they are answered."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0
        self.refused = 0
        self._lock = threading.Lock()

    @contextmanager
    def take(self, nbytes: int) -> Iterator[None]:
        """Hold nbytes of the budget; raises OverloadedError at once if they can't be had."""
        self.add(nbytes)
        try:
            yield
        finally:
            self.give_back(nbytes)

    def add(self, nbytes: int) -> None:
        """Take nbytes more (a body of unknown length, chunk by chunk); the caller gives them back."""
        with self._lock:
            if self.used + nbytes > self.bytes_max:
                self.refused += 1
                raise OverloadedError(
                    f"{self.used} bytes of requests are waiting to be stored (at most {self.bytes_max}); retry",
                    RETRY_AFTER_S,
                )
            self.used += nbytes

    def give_back(self, nbytes: int) -> None:
        """Return bytes taken with `add`."""
        with self._lock:
            self.used -= nbytes
