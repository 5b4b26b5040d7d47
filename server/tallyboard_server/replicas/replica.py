"""This service as one of several: a thread that keeps it alive in the database, gets it work, and tells the news."""

import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from tallyboard_server.ingest.waiting import Record
from tallyboard_server.replicas.held import HeldShares
from tallyboard_server.replicas.news import Item, News, read
from tallyboard_server.shares import SHARES
from tallyboard_server.store.protocol import StoreBusyError, StoreError, Transaction

if TYPE_CHECKING:
    from tallyboard_server.store.postgres import PostgresStore
    from tallyboard_server.store.postgres.peers import Peers, Told
    from tallyboard_server.store.postgres.transaction import PostgresTransaction

logger = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""How often news are told and heard."""
RENEW_EVERY_S: Final = 1.0
VALID_S: Final = 5.0
"""A replica that was silent for so long is dead, and its shares are free."""
MARGIN_S: Final = 1.0
"""By so much sooner it stops to rely on them itself: clocks may drift that far apart within VALID_S."""


class Hearing(Protocol):
    """What is told by others."""

    def heard(self, items: Sequence[Item]) -> None:
        """This happened to runs; quick."""
        ...

    def missed(self) -> None:
        """Some of what happened was not heard."""
        ...


class Replica:
    """One service among those on a database."""

    def __init__(
        self,
        store: "PostgresStore",
        shares: HeldShares,
        news: News,
        hearing: Hearing,
        *,
        backlog_bytes: Callable[[], int],
        revised: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """revised: told the name of what is kept in memory and another replica has changed. clock: monotonic."""
        self.id = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._store = store
        self._shares = shares
        self._news = news
        self._hearing = hearing
        self._backlog_bytes = backlog_bytes
        self._revised = revised
        self._clock = clock
        self._known: dict[str, int] = {}
        self._backlogs: dict[str, int] = {}
        self._revisions: dict[str, int] = {}
        self._alive = 0
        self._next_renewal = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-replica", daemon=True)
        self._figures = dict.fromkeys(
            ("replica_deaths_total", "replica_items_heard_total", "replica_missed_total", "replica_errors_total"), 0
        )

    def start(self) -> None:
        """Join the others, and begin. Raises StoreError."""
        self.turn()
        self._thread.start()

    def stop(self, timeout_s: float = 15.0) -> None:
        """Leave: others take over at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._shares.extend(0.0)
        try:
            with self._store.peers() as peers:
                if self._news.anything:
                    peers.tell(self.id, *self._news.bulletin(0))
                peers.leave(self.id)
        except StoreError as error:
            logger.info("the other replicas will notice in %.0f s that this one is gone: %s", VALID_S, error)

    def record(self, record: Callable[[Record], None]) -> Callable[[Record], None]:
        """Like `record`, for work on held shares: nothing is written if this replica was taken for dead meanwhile."""

        def fenced(work: Record) -> None:
            def guarded(transaction: Transaction) -> None:
                if not cast("PostgresTransaction", transaction).lock_alive(self.id):
                    raise StoreBusyError("this replica was silent for too long, and others do its work; it begins anew")
                work(transaction)

            record(guarded)

        return fenced

    def backlog_bytes(self) -> int:
        """How far the views of the other replica that is furthest behind are behind the journal."""
        return max(self._backlogs.values(), default=0)

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        return {
            **self._figures,
            "replicas_alive": self._alive,
            "replica_shares": sum(map(self._shares.has, range(SHARES))),
        }

    def turn(self) -> None:
        """Renew, tell and hear once. Raises StoreError."""
        now = self._clock()
        left = self._shares.left()
        is_due = bool(left) or now >= self._next_renewal
        with self._store.peers() as peers:
            if is_due:
                peers.release(self.id, left)
                anew, mine, surplus = self._renewed(peers)
            if self._news.anything or is_due:
                peers.tell(self.id, *self._news.bulletin(self._backlog_bytes()))
            told = peers.hear(self.id, self._known)
            revisions = peers.revisions()
        if is_due:
            self._next_renewal = now + RENEW_EVERY_S
            self._shares.extend(now + VALID_S - MARGIN_S)
            self._shares.take_over(mine, anew=anew)
            self._shares.leave(surplus)
        self._hear(told)
        self._revise(revisions)

    def _renewed(self, peers: "Peers") -> tuple[bool, list[int], list[int]]:
        """Stay alive; whether it had to begin to be so again, the shares it has, and those that are too many."""
        anew = not peers.renew(self.id, VALID_S)
        if anew:
            peers.register(self.id, VALID_S)
        peers.bury()
        self._alive = peers.count()
        fair = math.ceil(SHARES / max(1, self._alive))
        mine = peers.shares_of(self.id)
        if len(mine) < fair:
            peers.claim(self.id, fair - len(mine))
            mine = peers.shares_of(self.id)
        if anew and self._known:
            self._figures["replica_deaths_total"] += 1
            logger.warning("this replica was taken for dead; it begins anew")
        return anew, mine, mine[fair:]

    def _hear(self, told: "Sequence[Told]") -> None:
        items: list[Item] = []
        missed = False
        for peer in told:
            known = self._known.get(peer.replica)
            bulletin, some_missed = read(peer.news, peer.number if known is None else known)
            if bulletin is not None:
                self._backlogs[peer.replica] = bulletin.backlog_bytes
                items += bulletin.items
                missed = missed or some_missed
        gone = self._known.keys() - {peer.replica for peer in told}
        self._known = {peer.replica: peer.number for peer in told}
        for replica in gone:  # what it told last may not have been heard
            self._backlogs.pop(replica, None)
            missed = True
        if items:
            self._figures["replica_items_heard_total"] += len(items)
            self._hearing.heard(items)
        if missed:
            self._figures["replica_missed_total"] += 1
            self._hearing.missed()

    def _revise(self, revisions: Mapping[str, int]) -> None:
        for name, number in revisions.items():
            if self._revisions.get(name, number) != number:
                self._revised(name)
            self._revisions[name] = number

    def _run(self) -> None:
        failing = False
        while not self._stop.wait(TICK_S):
            try:
                self.turn()
            except Exception as error:  # without this thread the replica would be dead to the others
                self._figures["replica_errors_total"] += 1
                if not failing:
                    foreseen = isinstance(error, StoreError)
                    logger.warning(
                        "the other replicas are out of reach: %s", error, exc_info=None if foreseen else error
                    )
                failing = True
            else:
                failing = False
