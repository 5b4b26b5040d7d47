"""How many requests a second one token, or without tokens one address, may make."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from tallyboard_server.api.problems import RateLimitedError
from tallyboard_server.principal import Principal

BURST_S: Final = 2.0
"""So many seconds' worth may come at once."""
KEYS_MAX: Final = 10_000
"""Whoever was quiet for BURST_S need not be remembered; beyond so many, whoever came first is forgotten."""
REFUSAL_PAUSE_S: Final = 0.5
"""How long a refusal is held back. Whoever heeds Retry-After loses nothing by it; whoever asks again at once would
otherwise keep the event loop busy with refusals."""


class Rates:
    """A token bucket for each who asks, kept as the time at which it is full again. Used on the event loop only."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic, keys_max: int = KEYS_MAX) -> None:
        """rate: requests a second for whoever has none of their own; 0: as many as they like. clock: seconds."""
        self._rate = rate
        self._clock = clock
        self._keys_max = keys_max
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._full_at)

    async def admit(self, principal: Principal) -> None:
        """`take`, whose refusal is held back."""
        try:
            self.take(principal)
        except RateLimitedError:
            await asyncio.sleep(REFUSAL_PAUSE_S)
            raise

    def take(self, principal: Principal) -> None:
        """Count a request. Raises RateLimitedError if there were too many just before it."""
        rate = self._rate if principal.rate is None else principal.rate
        if rate <= 0:
            return
        now = self._clock()
        key = principal.token or principal.address
        known = self._full_at.get(key)
        if known is None and len(self._full_at) >= self._keys_max:
            self._make_room(now)
        full_at = max(known or now, now) + 1 / rate
        if (wait_s := full_at - now - max(BURST_S, 1 / rate)) > 1e-9:
            whose = "this token" if principal.token else f"address {principal.address}"
            raise RateLimitedError(f"{whose} may make {rate:g} requests a second; send fewer, larger batches", wait_s)
        self._full_at[key] = full_at

    def _make_room(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        while len(self._full_at) >= self._keys_max:
            del self._full_at[next(iter(self._full_at))]
