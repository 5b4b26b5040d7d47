"""How often a wrong token may be given from one address."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

TRIES_MAX: Final = 10
"""Wrong tokens from one address in TRIES_S; those that follow are told to wait."""
TRIES_S: Final = 60.0
_ADDRESSES_MAX: Final = 1_000


class Tries:
    """Wrong tokens by address, bounded. clock: seconds, any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long an address has to wait before its next try; 0.0: not at all."""
        began, wrong = self._wrong.get(address, (0.0, 0))
        return max(0.0, began + TRIES_S - self._clock()) if wrong >= TRIES_MAX else 0.0

    def failed(self, address: str) -> None:
        """A wrong token came from an address."""
        began, wrong = self._wrong.pop(address, (0.0, 0))
        now = self._clock()
        if not wrong or now - began > TRIES_S:
            began, wrong = now, 0
        self._wrong[address] = (began, wrong + 1)
        while len(self._wrong) > _ADDRESSES_MAX:
            self._wrong.popitem(last=False)
