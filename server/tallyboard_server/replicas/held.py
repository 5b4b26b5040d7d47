"""The shares that this replica holds, as far as it can be sure of that."""

import itertools
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from tallyboard_server.shares import SHARES

HANDOVER_MAX_S: Final = 10.0
"""A turn of work that takes longer keeps its shares from being given back this time."""


class HeldShares:
    """Shares for those who work (see `shares.Shares`); who holds what is told by `take_over`, from the database."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._held: frozenset[int] = frozenset()
        self._valid_until = 0.0
        self._pictures = itertools.count(1)
        self._picture = 0
        self._turns: set[int] = set()
        self._numbers = itertools.count()

    @property
    def picture(self) -> Hashable:
        """See Shares.picture."""
        return self._picture, self._is_valid

    @property
    def held(self) -> frozenset[int]:
        """The shares, whether their time is over or not."""
        return self._held

    def has(self, run_id: int) -> bool:
        """See Shares.has."""
        return run_id % SHARES in self._held and self._is_valid

    @contextmanager
    def working(self) -> Iterator[None]:
        """See Shares.working."""
        number = next(self._numbers)
        with self._changed:
            self._turns.add(number)
        try:
            yield
        finally:
            with self._changed:
                self._turns.discard(number)
                self._changed.notify_all()

    def extend(self, valid_until: float) -> None:
        """What is held stays so until a time of the clock."""
        self._valid_until = valid_until

    def take_over(self, shares: Collection[int], *, anew: bool = False) -> None:
        """These are held now; anew: all of them may have been another's in between."""
        if anew or self._held != frozenset(shares):
            self._held = frozenset(shares)
            self._picture = next(self._pictures)

    def let_go(self, shares: Collection[int]) -> bool:
        """Hold these no more, once the turns in progress are over; False, and nothing is changed, if one lasts long."""
        before = self._held
        self.take_over(before - frozenset(shares))
        with self._changed:
            inside = set(self._turns)
            if self._changed.wait_for(lambda: not (inside & self._turns), HANDOVER_MAX_S):
                return True
        self.take_over(before)
        return False

    @property
    def _is_valid(self) -> bool:
        return self._clock() < self._valid_until
