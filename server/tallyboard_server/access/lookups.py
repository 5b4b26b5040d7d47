"""Second looks: what this service does not know of may have been made by another one on the same store.

All who wait are looked up with one query, and queries are PAUSE_S apart: a flood of wrong tokens is none of queries,
and keeps no right one waiting for longer.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import anyio.to_thread
from anyio import CapacityLimiter

from tallyboard_server.store.protocol import StoreBusyError, StoreError

Key = str | bytes
"""The id of a token, or the hash of a session's cookie."""

PAUSE_S: Final = 0.05
WAITING_MAX: Final = 1_000
"""Keys in one query; whoever comes when so many wait already is told to come again."""


class Lookups:
    """Used on one event loop at a time. ask: takes over what the store has of some keys; on a thread of its own."""

    def __init__(self, ask: Callable[[Collection[Key]], None]) -> None:
        self._ask = ask
        self._waiting: dict[Key, asyncio.Future[StoreError | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def look(self, key: Key) -> None:
        """Have the store asked for a key; returns when that is done. Raises StoreError."""
        found = self._waiting.get(key)
        if found is None:
            if len(self._waiting) >= WAITING_MAX:
                raise StoreBusyError("too many tokens that are not known here have come at once; retry")
            found = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        if (error := await asyncio.shield(found)) is not None:
            raise StoreBusyError(f"whether the token is good could not be looked up ({error}); retry") from error

    async def _work(self) -> None:
        one_at_a_time = CapacityLimiter(1)  # not of the threads that requests wait for
        asked: dict[Key, asyncio.Future[StoreError | None]] = {}
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                error: StoreError | None = None
                try:
                    await anyio.to_thread.run_sync(self._ask, list(asked), limiter=one_at_a_time)
                except StoreError as raised:
                    error = raised
                _resolve(asked, error)
                await asyncio.sleep(PAUSE_S)
        finally:
            self._task = None
            waiting, self._waiting = self._waiting, {}
            _resolve(asked | waiting, StoreError("the service could not ask, or is ending"))


def _resolve(asked: "dict[Key, asyncio.Future[StoreError | None]]", error: StoreError | None) -> None:
    for future in asked.values():
        if not future.done():
            future.set_result(error)
