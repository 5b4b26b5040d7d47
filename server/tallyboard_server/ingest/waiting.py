"""The queue before the writer: bounded in bytes, runs in turn so that a loud one can't starve a quiet one."""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tallyboard_server.ingest.commands import Append, Command, Done
from tallyboard_server.ingest.errors import OverloadedError
from tallyboard_server.store.protocol import Work

COMMAND_BYTES_MIN: Final = 1024
"""What a command without a body counts as."""
RETRY_AFTER_S: Final = 1.0


@dataclass(slots=True, frozen=True)
class LoopAnswer:
    """A coroutine that waits: its future is resolved on its own loop, those of a group with one wake-up."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Done]"


@dataclass(slots=True)
class Waiting:
    """A command, or work of the service's own, on its way through the writer.

    answer: gets a result or an exception, once. since: when it came (monotonic clock).
    """

    work: Command | Work
    answer: LoopAnswer | Callable[[Any], None]
    since: float = field(default_factory=time.monotonic)

    @property
    def nbytes(self) -> int:
        """What it counts as in queue and group."""
        body = self.work.batch.nbytes if isinstance(self.work, Append) else 0
        return max(body, COMMAND_BYTES_MIN)

    @property
    def turn(self) -> str:
        """Whose turn it is part of: the run's name, or "" for the service's own work."""
        return "" if callable(self.work) else self.work.name


class WaitingQueue:
    """Commands in order per run; groups take one command of each run in turn."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._changed = threading.Condition()
        self._turns: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._closed = False
        self.nbytes = 0

    def put(self, waiting: Waiting) -> None:
        """Add to the queue; raises OverloadedError if it is full or closed. The service's own work always fits."""
        with self._changed:
            if self._closed:
                raise OverloadedError("the server is shutting down; retry when it is back", RETRY_AFTER_S)
            if not callable(waiting.work) and self.nbytes + waiting.nbytes > self._bytes_max:
                raise OverloadedError(f"{self.nbytes} bytes wait to be stored; retry", RETRY_AFTER_S)
            self._turns.setdefault(waiting.turn, deque()).append(waiting)
            self.nbytes += waiting.nbytes
            self._changed.notify()

    def put_back(self, several: Sequence[Waiting]) -> None:
        """What could not be done yet is first in its run's line again, in its order, be the queue full or closed."""
        with self._changed:
            for waiting in reversed(several):
                self._turns.setdefault(waiting.turn, deque()).appendleft(waiting)
                self.nbytes += waiting.nbytes

    def take_group(self, bytes_max: int, timeout_s: float, commands_max: int | None = None) -> list[Waiting] | None:
        """The next group: [] if nothing came within timeout_s, None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._closed, timeout_s)
            if not self._turns:
                return None if self._closed else []
            group: list[Waiting] = []
            size = 0
            while self._turns and size < bytes_max and (commands_max is None or len(group) < commands_max):
                turn, line = self._turns.popitem(last=False)
                waiting = line.popleft()
                if line:
                    self._turns[turn] = line
                group.append(waiting)
                size += waiting.nbytes
            self.nbytes -= size
            return group

    def close(self) -> None:
        """Let nothing more in; what waits is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
