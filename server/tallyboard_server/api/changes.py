"""Which runs changed lately: the newest changes by name, numbered, in bounded memory.

A reader holds the number of the newest change that it knows, and asks for what came after it. So nothing is kept for
any reader, however slow, and a change costs the same whether one reader looks or a hundred do.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

KEPT_MAX: Final = 2_000
"""Runs whose newest change is known. Whoever has missed more has to look at everything again."""


@dataclass(slots=True, frozen=True)
class News:
    """What came after a number, up to `number`: names of runs, each in one of the lists by what happened to it last.

    resync: more than is known any more, and the lists are empty.
    """

    number: int
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    resync: bool = False

    def __bool__(self) -> bool:
        return self.resync or bool(self.changed) or bool(self.deleted)


@dataclass(slots=True, frozen=True)
class _Change:
    number: int
    deleted: bool


class Changes:
    """The newest change of each run. Any thread may call; each call takes no longer than its names or answer."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._lock = threading.Lock()
        self._kept_max = kept_max
        self._runs: OrderedDict[str, _Change] = OrderedDict()
        self._newest = 0
        self._forgotten = 0

    @property
    def newest(self) -> int:
        """The number of the newest change; 0 before the first."""
        return self._newest

    def add(self, runs: Iterable[tuple[str, bool]]) -> None:
        """Runs changed: their names, and whether they were deleted."""
        with self._lock:
            for name, deleted in runs:
                self._newest += 1
                self._runs[name] = _Change(self._newest, deleted)
                self._runs.move_to_end(name)
            while len(self._runs) > self._kept_max:
                self._forgotten = self._runs.popitem(last=False)[1].number

    def miss(self) -> None:
        """Anything may have changed: whoever asks next has to look at everything again."""
        with self._lock:
            self._newest += 1
            self._runs.clear()
            self._forgotten = self._newest

    def since(self, number: int, prefix: str = "") -> News:
        """What came after a number, of runs whose names begin with `prefix`; names in the order of their changes."""
        with self._lock:
            if number < self._forgotten:
                return News(self._newest, resync=True)
            found: list[tuple[str, bool]] = []
            for name, change in reversed(self._runs.items()):
                if change.number <= number:
                    break
                if name.startswith(prefix):
                    found.append((name, change.deleted))
            newest = self._newest
        found.reverse()
        return News(
            newest,
            tuple(name for name, deleted in found if not deleted),
            tuple(name for name, deleted in found if deleted),
        )
