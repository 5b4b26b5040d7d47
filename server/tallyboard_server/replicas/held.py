"""The shares that this replica holds, as far as it can be sure of that, and those it is about to give back."""

import itertools
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager

from tallyboard_server.shares import SHARES


class HeldShares:
    """Shares for those who work (see `shares.Shares`); who holds what is told by `take_over`, from the database.

    A share is given back in two steps, so that nobody has to wait: from `leave` on no work is begun for its runs; `left`
    has it once all turns of work are over that were in progress then.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: monotonic, in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._held: frozenset[int] = frozenset()
        self._leaving: dict[int, frozenset[int]] = {}
        self._valid_until = 0.0
        self._pictures = itertools.count(1)
        self._picture = 0
        self._turns: set[int] = set()
        self._numbers = itertools.count()

    @property
    def picture(self) -> Hashable:
        """See Shares.picture."""
        return self._picture, self._is_valid

    def has(self, run_id: int) -> bool:
        """See Shares.has."""
        return run_id % SHARES in self._held and self._is_valid

    @contextmanager
    def working(self) -> Iterator[None]:
        """See Shares.working."""
        number = next(self._numbers)
        with self._lock:
            self._turns.add(number)
        try:
            yield
        finally:
            with self._lock:
                self._turns.discard(number)

    def extend(self, valid_until: float) -> None:
        """What is held stays so until a time of the clock."""
        self._valid_until = valid_until

    def take_over(self, shares: Collection[int], *, anew: bool = False) -> None:
        """These are this replica's now, those about to be given back among them; anew: all of them may have been
        another's in between."""
        with self._lock:
            self._leaving = {share: turns for share, turns in self._leaving.items() if share in shares}
            self._hold(frozenset(shares) - self._leaving.keys(), anew=anew)

    def leave(self, shares: Collection[int]) -> None:
        """Begin to give these back."""
        with self._lock:
            self._leaving |= {share: frozenset(self._turns) for share in shares if share not in self._leaving}
            self._hold(self._held - self._leaving.keys())

    def left(self) -> list[int]:
        """Shares that may be given back now: nothing is being done for their runs."""
        with self._lock:
            return [share for share, turns in self._leaving.items() if not turns & self._turns]

    def _hold(self, shares: frozenset[int], *, anew: bool = False) -> None:
        if anew or shares != self._held:
            self._held = shares
            self._picture = next(self._pictures)

    @property
    def _is_valid(self) -> bool:
        return self._clock() < self._valid_until
