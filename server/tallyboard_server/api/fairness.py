"""A run's share: only so many of its reports are worked on at once, so that a job gone wild waits for itself.

Bodies are not read before it is their turn: until then they wait in the sockets, and cost neither memory nor time.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from tallyboard.wire.limits import MIB
from tallyboard_server.api.rates import REFUSAL_PAUSE_S
from tallyboard_server.ingest.errors import OverloadedError

WAIT_S_MAX: Final = 20.0
"""How long a request waits for its turn: less than clients wait for an answer."""
RETRY_AFTER_S: Final = 1.0
CROWDED_BYTES_PER_S: Final = 4 * MIB
"""Of a run that has more requests waiting, while others report, too: half a million scalars a second. Each of its
batches costs those after it the time to store, export and merge it, and no training brings so much."""
OTHERS_S: Final = 1.0
UNPACKED_RATIO: Final = 16
"""What a compressed byte is taken for: reports pack well."""


@dataclass(slots=True)
class _Line:
    """What is worked on of one run, and who waits, in order, each with the bytes it wants.

    rest_until: nobody is let in before, by the loop's clock, because much was let in just now and others report, too;
    resting: somebody will look then.
    """

    requests: int = 0
    nbytes: int = 0
    rest_until: float = 0.0
    resting: bool = False
    waiting: deque[tuple[asyncio.Future[None], int]] = field(default_factory=deque)


class FairShare:
    """Turns of each run's requests. Nothing is kept of runs that are quiet. Used on the event loop only."""

    def __init__(
        self,
        requests_max: int,
        bytes_max: int,
        waiting_max: int,
        *,
        wait_s: float = WAIT_S_MAX,
        pause_s: float = REFUSAL_PAUSE_S,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """requests_max, bytes_max: of one run at once (a larger request goes alone); waiting_max: who may wait.

        wait_s: for how long; pause_s: for which a refusal is held back. aside: entered while a request only waits.
        """
        self._pause_s = pause_s
        self._aside = aside
        self.bytes_max = bytes_max
        self._requests_max = requests_max
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._lines: dict[str, _Line] = {}
        self._latest_run: str | None = None
        self._others_at = -math.inf
        """When a request came of another run than the one before it."""
        self._waited = 0
        self._refused = 0

    def __len__(self) -> int:
        """How many runs are worked on."""
        return len(self._lines)

    def stats(self) -> Mapping[str, float]:
        """Figures for /metrics."""
        waiting = sum(len(line.waiting) for line in self._lines.values())
        return {
            "fair_share_waiting": waiting,
            "fair_share_waited_total": self._waited,
            "fair_share_refused_total": self._refused,
        }

    @asynccontextmanager
    async def turn(self, run: str, nbytes: int) -> AsyncIterator[None]:
        """Wait until a request of so many bytes is within the run's share, and hold that until the block ends.

        Raises OverloadedError if too many wait already, or it takes too long.
        """
        loop = asyncio.get_running_loop()
        if run != self._latest_run:
            self._others_at = self._others_at if self._latest_run is None else loop.time()
            self._latest_run = run
        line = self._lines.get(run)
        if line is None:
            line = self._lines[run] = _Line()
        if line.waiting or line.resting or not self._fits(line, nbytes):
            with self._aside():
                await self._wait(run, line, nbytes)
        else:
            line.requests += 1
            line.nbytes += nbytes
        try:
            yield
        finally:
            if line.waiting and loop.time() - self._others_at < OTHERS_S:
                self._rest(run, line, min(nbytes, self.bytes_max) / CROWDED_BYTES_PER_S)
            self._leave(run, line, nbytes)

    async def _wait(self, run: str, line: _Line, nbytes: int) -> None:
        if len(line.waiting) >= self._waiting_max:
            self._refused += 1
            said = f"{line.requests} requests of run {run!r} are worked on and {len(line.waiting)} wait"
            await asyncio.sleep(self._pause_s)
            raise OverloadedError(f"{said}; send larger batches, one after the other", RETRY_AFTER_S)
        self._waited += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append((turn, nbytes))
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came in the same moment
                self._leave(run, line, nbytes)
            else:
                line.waiting.remove((turn, nbytes))
                self._let_in(run, line)
            if isinstance(error, TimeoutError):
                self._refused += 1
                raise OverloadedError(
                    f"earlier requests of run {run!r} took more than {self._wait_s:g} s; retry", RETRY_AFTER_S
                ) from error
            raise

    def _fits(self, line: _Line, nbytes: int) -> bool:
        return not line.requests or (line.requests < self._requests_max and line.nbytes + nbytes <= self.bytes_max)

    def _leave(self, run: str, line: _Line, nbytes: int) -> None:
        line.requests -= 1
        line.nbytes -= nbytes
        self._let_in(run, line)

    def _rest(self, run: str, line: _Line, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        line.rest_until = max(line.rest_until, loop.time()) + seconds
        if not line.resting:
            line.resting = True
            loop.call_at(line.rest_until, self._rested, run, line)

    def _rested(self, run: str, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < line.rest_until:  # those that were at work beside it have ended, too
            loop.call_at(line.rest_until, self._rested, run, line)
            return
        line.resting = False
        self._let_in(run, line)

    def _let_in(self, run: str, line: _Line) -> None:
        """Give their turn to those whose it is now; forget a run of which nothing is left."""
        while line.waiting and not line.resting and self._fits(line, line.waiting[0][1]):
            turn, nbytes = line.waiting[0]
            if turn.done():  # cancelled: it will take itself out
                break
            line.waiting.popleft()
            line.requests += 1
            line.nbytes += nbytes
            turn.set_result(None)
        if not line.requests and not line.waiting and not line.resting:
            self._lines.pop(run, None)


def weight(request: Request, share_bytes: int) -> int:
    """What a request counts as in its run's share of `share_bytes`: its body's bytes, or what they may unpack to.

    One that does not say its length counts as all of the share.
    """
    length = request.headers.get("content-length")
    if length is None or not length.isdigit():
        return share_bytes
    packed = request.headers.get("content-encoding", "identity") != "identity"
    return int(length) * (UNPACKED_RATIO if packed else 1)
