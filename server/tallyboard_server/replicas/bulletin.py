"""What this replica tells the others of the runs that it changed: the newest, numbered, bounded in time and number."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from tallyboard.wire import Refusal
from tallyboard_server.contract import RefusedError
from tallyboard_server.ingest.commands import Done

KEPT_S: Final = 3.0
KEPT_MAX: Final = 2_000
"""Items that are told; who reads too late to have seen all has to look at everything again."""
REFUSALS_MAX: Final = 3
"""Refusals of a run that are told whole; the others are counted."""


class BulletinItem(msgspec.Struct, frozen=True, array_like=True):
    """What happened to one run since it was last told of. number: of the newest of it, counted by the teller.

    blocks, scalars: what it got. odd: something that watchdogs want to see the points of. rebuild: somebody asks for a
    new event file, whatever the state of the present one.
    """

    number: int
    run_id: int
    name: str
    deleted: bool = False
    ended: bool = False
    blocks: int = 0
    scalars: int = 0
    odd: bool = False
    refused: tuple[Refusal, ...] = ()
    refused_count: int = 0
    rebuild: bool = False


class Bulletin(msgspec.Struct, frozen=True, array_like=True):
    """All that a replica tells. forgotten: items up to this number are not there any more. backlog_bytes: how far its
    event files and merges are behind."""

    forgotten: int
    backlog_bytes: int
    items: tuple[BulletinItem, ...]


class Teller:
    """Collects items; any thread may call."""

    def __init__(self, is_odd: Callable[[Done], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """is_odd: whether watchdogs would want to see the points of what was committed."""
        self._is_odd = is_odd
        self._clock = clock
        self._lock = threading.Lock()
        self._fresh: dict[int, BulletinItem] = {}
        self._told: deque[tuple[float, BulletinItem]] = deque()
        self._number = 0
        self._forgotten = 0
        self._told_backlog = 0

    def committed(self, done: list[Done]) -> None:
        """Commands are durable; as Ingest.on_commit calls."""
        for done_item in done:
            if not done_item.receipt.replayed:
                receipt = done_item.receipt
                self._add(
                    BulletinItem(
                        0,
                        done_item.state.id,
                        done_item.state.name,
                        done_item.deleted,
                        done_item.ended,
                        len(done_item.blocks),
                        receipt.stored,
                        self._is_odd(done_item),
                        tuple(receipt.refused[:REFUSALS_MAX]),
                        receipt.refused_count,
                    )
                )

    def refused(self, error: RefusedError) -> None:
        """A batch was refused whole; as Ingest.on_refused calls."""
        refused = tuple(error.refused[:REFUSALS_MAX])
        self._add(BulletinItem(0, error.state.id, error.state.name, refused=refused, refused_count=error.refused_count))

    def changed(self, run_id: int, run: str) -> None:
        """A run looks otherwise for a reason that is no command."""
        self._add(BulletinItem(0, run_id, run))

    def rebuild(self, run_id: int, name: str) -> None:
        """Whoever writes a run's event file is to write it anew."""
        self._add(BulletinItem(0, run_id, name, rebuild=True))

    @property
    def anything(self) -> bool:
        """Whether there is something that was not in a bulletin yet."""
        return bool(self._fresh)

    def bulletin(self, backlog_bytes: int) -> tuple[int, bytes]:
        """The number of the newest item, and what is to be told, encoded: all of the last KEPT_S."""
        now = self._clock()
        with self._lock:
            for item in self._fresh.values():
                self._number += 1
                self._told.append((now, msgspec.structs.replace(item, number=self._number)))
            self._fresh.clear()
            if backlog_bytes != self._told_backlog:  # who hears of a number only reads what has a new one
                self._told_backlog = backlog_bytes
                self._number += 1
            while self._told and (self._told[0][0] < now - KEPT_S or len(self._told) > KEPT_MAX):
                self._forgotten = max(self._forgotten, self._told.popleft()[1].number)
            items = tuple(item for _, item in self._told)
            return self._number, msgspec.msgpack.encode(Bulletin(self._forgotten, backlog_bytes, items))

    def _add(self, item: BulletinItem) -> None:
        with self._lock:
            known = self._fresh.get(item.run_id)
            self._fresh[item.run_id] = item if known is None else _joined(known, item)
            if len(self._fresh) > KEPT_MAX:  # nothing can be told, for long
                del self._fresh[next(iter(self._fresh))]
                self._number += 1
                self._forgotten = self._number


def read_bulletin(news: bytes, known: int) -> tuple[Bulletin | None, bool]:
    """What is new of a bulletin to somebody who knows it up to a number, and whether some of it was missed."""
    if not news:
        return None, False
    bulletin = msgspec.msgpack.decode(news, type=Bulletin)
    items = tuple(item for item in bulletin.items if item.number > known)
    return Bulletin(bulletin.forgotten, bulletin.backlog_bytes, items), bulletin.forgotten > known


def _joined(old: BulletinItem, new: BulletinItem) -> BulletinItem:
    """Two items of one run, of which neither was told yet, as one."""
    return BulletinItem(
        new.number,
        new.run_id,
        new.name,
        old.deleted or new.deleted,
        old.ended or new.ended,
        old.blocks + new.blocks,
        old.scalars + new.scalars,
        old.odd or new.odd,
        (old.refused + new.refused)[:REFUSALS_MAX],
        old.refused_count + new.refused_count,
        old.rebuild or new.rebuild,
    )
