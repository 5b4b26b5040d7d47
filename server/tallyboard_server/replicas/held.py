"""The shares that this replica holds, as far as it can be sure of that."""

import itertools
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager

from tallyboard_server.shares import SHARES


class HeldShares:
    """Shares for those who work (see `shares.Shares`); who holds what is told by `take_over`, from the database.

    A replica that was taken for dead begins a new *life* under another id: what was begun in a former one is not gone
    on with. A turn of work has the life in which it began.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._life = ""
        self._held: frozenset[int] = frozenset()
        self._leaving: dict[int, frozenset[int]] = {}
        """Shares that were let go, with the turns of work that were in progress then."""
        self._valid_until = float("-inf")
        self._version = 0
        self._turns: set[int] = set()
        self._numbers = itertools.count()
        self._own = threading.local()

    @property
    def version(self) -> Hashable:
        """See Shares.version."""
        return self._version, self._is_valid

    @property
    def life(self) -> str:
        """Under which id the calling thread works: that of the life in which its turn began; outside of turns, of the
        present one."""
        life: str = getattr(self._own, "life", None) or self._life
        return life

    def has(self, run_id: int) -> bool:
        """See Shares.has."""
        return run_id % SHARES in self._held and self._is_valid and self.life == self._life

    @contextmanager
    def working(self) -> Iterator[None]:
        """See Shares.working."""
        with self._lock:
            number = next(self._numbers)
            self._turns.add(number)
            self._own.life = self._life
        try:
            yield
        finally:
            with self._lock:
                self._turns.discard(number)
                self._own.life = None

    def begin(self, life: str) -> None:
        """Hold nothing, under a new id; turns in progress have nothing any more."""
        with self._lock:
            self._life = life
            self._held, self._leaving = frozenset(), {}
            self._version += 1

    def take_over(self, shares: Collection[int]) -> None:
        """These are held now, and no others."""
        with self._lock:
            now_held = frozenset(shares)
            if now_held == self._held:
                return
            turns = frozenset(self._turns)
            self._leaving.update((share, turns) for share in self._held - now_held)
            for share in now_held:
                self._leaving.pop(share, None)
            self._held = now_held
            self._version += 1

    def is_let_go(self, share: int) -> bool:
        """Whether a share is not held, and the turns in progress when it was are over: another may have it."""
        with self._lock:
            return share not in self._held and not self._leaving.get(share, frozenset()) & self._turns

    def extend(self, valid_until: float) -> None:
        """What is held stays so until a time of the clock."""
        self._valid_until = valid_until

    @property
    def _is_valid(self) -> bool:
        return self._clock() < self._valid_until
