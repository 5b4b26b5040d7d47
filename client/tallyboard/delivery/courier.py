"""Carries one request at a time on a thread of its own: a service that hangs keeps no batch from the disk."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from tallyboard.delivery.alarm import Alarm

_T = TypeVar("_T")


class Carrier(Protocol[_T]):
    """Does errands for the sender."""

    @property
    def busy(self) -> bool:
        """Whether an errand is under way, or its result waits."""
        ...

    def carry(self, errand: Callable[[], _T]) -> None:
        """Do it; not while busy."""
        ...

    def brought(self) -> _T | None:
        """What came of it, once; None while it is under way. Raises what the errand raised."""
        ...

    def end(self) -> None:
        """Take no more errands."""
        ...


class Courier(Generic[_T]):
    """A Carrier on a thread of its own, started with the first errand; rings the alarm when it is back."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._errands: SimpleQueue[Callable[[], _T] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[_T | None, Exception | None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.busy = False

    def carry(self, errand: Callable[[], _T]) -> None:
        """Have it done."""
        self.busy = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tallyboard-courier", daemon=True)
            self._thread.start()
        self._errands.put(errand)

    def brought(self) -> _T | None:
        """What came of it."""
        if not self.busy or self._results.empty():
            return None
        result, error = self._results.get()
        self.busy = False
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """Let the thread end; one that hangs in a request is left behind."""
        self._errands.put(None)

    def _run(self) -> None:
        while (errand := self._errands.get()) is not None:
            try:
                self._results.put((errand(), None))
            except Exception as error:  # noqa: BLE001 - raised where its result is asked for
                self._results.put((None, error))
            self._alarm.ring()
