"""What the writer's thread hands to the watchdogs' thread: the newest of each run, bounded."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tallyboard.wire import CounterValue, Refusal
from tallyboard.wire.limits import MIB
from tallyboard_server.contract import RefusedError
from tallyboard_server.ingest.commands import Done
from tallyboard_server.model import Block, RunState
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.watch.book import RuleBook
from tallyboard_server.watch.points import is_finite

RUNS_MAX: Final = 10_000
BLOCK_BYTES_MAX: Final = 16 * MIB
"""Of blocks that are to be looked at closer; what is more is not looked at, and counted."""
REFUSALS_MAX: Final = 100


@dataclass(slots=True)
class News:
    """What happened to a run since the watchdogs last looked. at: when the newest of it did."""

    state: RunState
    at: float
    deleted: bool = False
    ended: bool = False
    values: dict[str, CounterValue] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    refused_count: int = 0

    def refuse(self, refusals: list[Refusal], count: int) -> None:
        """So many reports were refused, of which some are told."""
        self.refusals += refusals[: REFUSALS_MAX - len(self.refusals)]
        self.refused_count += count


class Inbox:
    """News by run. `committed` and `refused` are called on the writer's thread, and quick; `take` on any other."""

    def __init__(self, book: RuleBook, clock: Callable[[], float], shares: Shares = EVERYTHING) -> None:
        self._book = book
        self._shares = shares
        self._clock = clock
        self._lock = threading.Lock()
        self._news: OrderedDict[int, News] = OrderedDict()
        self._block_bytes = 0
        self.looked_at: frozenset[int] = frozenset()
        """Runs of which all points are wanted, not only those that are not finite."""
        self.dropped = 0

    def committed(self, done: list[Done]) -> None:
        """Commands are durable; as Ingest.on_commit calls."""
        for item in done:
            if item.receipt.replayed or not self._shares.has(item.state.id):
                continue
            blocks = self._suspicious(item)
            with self._lock:
                news = self._of(item.state)
                news.deleted = news.deleted or item.deleted
                news.ended = news.ended or item.ended
                news.values.update(item.receipt.counters)
                if item.receipt.refused_count:
                    news.refuse(item.receipt.refused, item.receipt.refused_count)
                self._add(news, blocks)

    def refused(self, error: RefusedError) -> None:
        """A batch was refused whole; as Ingest.on_refused calls."""
        if self._shares.has(error.state.id):
            with self._lock:
                self._of(error.state).refuse(error.refused, error.refused_count)

    def wants_points(self, run_id: int, run: str) -> bool:
        """Whether all points of a run are to be looked at."""
        return run_id in self.looked_at or self._book.of_run(run).has_limits

    def take(self) -> dict[int, News]:
        """All news since the last call, by run id."""
        with self._lock:
            news, self._news = self._news, OrderedDict()
            self._block_bytes = 0
            return news

    def _suspicious(self, item: Done) -> tuple[Block, ...]:
        """The blocks of a batch that have to be looked at."""
        if not item.blocks:
            return ()
        if self.wants_points(item.state.id, item.state.name):
            return item.blocks
        return tuple(block for block in item.blocks if not is_finite(block))

    def _of(self, state: RunState) -> News:
        """A run's news, to be added to."""
        now = self._clock()
        if (news := self._news.get(state.id)) is None:
            news = self._news[state.id] = News(state, now)
            if len(self._news) > RUNS_MAX:
                self._news.popitem(last=False)
                self.dropped += 1
        news.state, news.at = state, now
        return news

    def _add(self, news: News, blocks: tuple[Block, ...]) -> None:
        for block in blocks:
            if self._block_bytes + block.nbytes > BLOCK_BYTES_MAX:
                self.dropped += 1
            else:
                self._block_bytes += block.nbytes
                news.blocks.append(block)
