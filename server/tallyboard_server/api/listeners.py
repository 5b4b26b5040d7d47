"""What the writer's thread has committed, told to those who listen on the event loop."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from tallyboard.version import __version__
from tallyboard_server.api.changes import Changes, News
from tallyboard_server.ingest.commands import Done

PAUSE_S: Final = 0.3
"""Between two events to one reader; what changes meanwhile is told together."""
KEEP_ALIVE_S: Final = 15.0
"""A comment at least so often, so that nothing between service and page takes the connection for dead."""
RETRY_MS: Final = 2_000
"""How long a browser waits before it connects again."""


class Live:
    """Tells listeners on an event loop what the writer's thread has committed.

    Made on the loop. `committed`, `changed`, `tell`, `miss` and `look_again` may be called by any thread, all else on
    the loop only.
    """

    def __init__(self, changes: Changes | None = None) -> None:
        self.boot = secrets.token_hex(8)
        self._changes = changes or Changes()
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._idle: set[asyncio.Future[None]] = set()
        self._waking = False
        self._listeners = 0
        self._events = 0

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return self._listeners

    def stats(self) -> Mapping[str, float]:
        """Figures for /metrics."""
        return {"live_clients": self._listeners, "live_events_total": self._events}

    def committed(self, done: list[Done]) -> None:
        """Commands are durable; as Ingest.on_commit calls."""
        self.tell((item.state.name, item.deleted) for item in done if not item.receipt.replayed)

    def changed(self, run: str) -> None:
        """A run looks otherwise for a reason that is no command."""
        self.tell([(run, False)])

    def tell(self, runs: Iterable[tuple[str, bool]]) -> None:
        """Runs changed: their names, and whether they were deleted."""
        if self._listeners:
            self._changes.add(runs)
            self._call()

    def miss(self) -> None:
        """Anything may have changed."""
        if self._listeners:
            self._changes.miss()
            self._call()

    def look_again(self) -> None:
        """Somebody may be allowed to listen no more: such streams end now, not when something changes."""
        self._call()

    def stop(self) -> None:
        """End all streams, and each that begins later."""
        self._stopped.set()
        self._wake()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While somebody listens: without anybody nothing is kept."""
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    async def events(self, prefix: str, may_listen: Callable[[], bool] = lambda: True) -> AsyncIterator[bytes]:
        """A stream's text, for runs whose names begin with `prefix`; ends when the service does, or `may_listen`."""
        seen = self._changes.newest
        yield _event("hello", {"version": __version__, "boot": self.boot}, retry_ms=RETRY_MS)
        told_at = self._loop.time()
        while not self._stopped.is_set() and may_listen():
            if not await self._anything_after(seen, told_at + KEEP_ALIVE_S - self._loop.time()):
                told_at = self._loop.time()
                yield b": nothing new\n\n"
                continue
            if not may_listen():
                return
            news = self._changes.since(seen, prefix)
            seen = news.number
            if news:
                told_at = self._loop.time()
                self._events += 1
                yield _changed(news)
            await self._pause()

    async def _anything_after(self, number: int, timeout_s: float) -> bool:
        """Wait for a change after a number, or the end; False if there was none in time."""
        woken = self._loop.create_future()
        self._idle.add(woken)  # before the look, or a change between the two would wake nobody
        try:
            if self._changes.newest > number or self._stopped.is_set():
                return True
            async with asyncio.timeout(max(0.0, timeout_s)):
                await woken
        except TimeoutError:
            return False
        finally:
            self._idle.discard(woken)
        return True

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(PAUSE_S):
                await self._stopped.wait()
        except TimeoutError:
            return

    def _call(self) -> None:
        if self._idle and not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._waking = False
        for woken in self._idle:
            if not woken.done():
                woken.set_result(None)


def _changed(news: News) -> bytes:
    return _event("changed", {"runs": news.changed, "deleted": news.deleted, "resync": news.resync})


def _event(name: str, data: Any, *, retry_ms: int | None = None) -> bytes:
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"%sevent: %s\ndata: %s\n\n" % (retry, name.encode(), msgspec.json.encode(data))
