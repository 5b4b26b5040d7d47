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

from tallyboard_server.replicas.bulletin import BulletinItem, Teller, read_bulletin
from tallyboard_server.replicas.held import HeldShares
from tallyboard_server.shares import SHARES
from tallyboard_server.store.protocol import Record, StoreBusyError, StoreError, Transaction, Work

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

    def heard(self, items: Sequence[BulletinItem]) -> None:
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
        teller: Teller,
        hearing: Hearing,
        *,
        backlog_bytes: Callable[[], int],
        revised: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """revised: told the name of what is kept in memory and another replica has changed. clock: monotonic."""
        self._store = store
        self._shares = shares
        self._teller = teller
        self._hearing = hearing
        self._backlog_bytes = backlog_bytes
        self._revised = revised
        self._clock = clock
        self._surplus: list[int] = []
        self._known: dict[str, int] | None = None
        self._backlogs: dict[str, int] = {}
        self._revisions: dict[str, int] = {}
        self._alive = 0
        self._next_renewal = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-replica", daemon=True)
        self._figures = dict.fromkeys(
            ("replica_deaths_total", "replica_items_heard_total", "replica_missed_total", "replica_errors_total"), 0
        )

    @property
    def id(self) -> str:
        """Under which the others know it: another one after it was taken for dead."""
        return self._shares.life

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
                if self._teller.anything:
                    peers.tell(self.id, *self._teller.bulletin(0))
                peers.leave(self.id)
        except StoreError as error:
            logger.info("the other replicas will notice in %.0f s that this one is gone: %s", VALID_S, error)

    def fenced(self, record: Record) -> Record:
        """Like `record`, for work on held shares: nothing is written if this replica was taken for dead since the
        turn of work began, be it alive again by now."""

        def record_fenced(work: Work) -> None:
            def guarded(transaction: Transaction) -> None:
                if not cast("PostgresTransaction", transaction).lock_alive(self._shares.life):
                    raise StoreBusyError("this replica was silent for too long, and others do its work; it begins anew")
                work(transaction)

            record(guarded)

        return record_fenced

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
        is_due = now >= self._next_renewal
        let_go = [share for share in self._surplus if self._shares.is_let_go(share)]
        with self._store.peers() as peers:
            if let_go:
                peers.release(self.id, let_go)
            life, mine, fair = self._renewed(peers) if is_due else (self.id, [], 0)
            if self._teller.anything or is_due:
                peers.tell(life, *self._teller.bulletin(self._backlog_bytes()))
            told = peers.hear(life, self._known or {})
            revisions = peers.revisions()
        self._surplus = [share for share in self._surplus if share not in let_go]
        if is_due:
            self._next_renewal = now + RENEW_EVERY_S
            self._live_on(life, mine, fair, now)
        self._hear(told)
        self._revise(revisions)

    def _renewed(self, peers: "Peers") -> tuple[str, list[int], int]:
        """Stay alive, or begin to be so; the id, the shares that it has, and how many it should have.

        Whoever was buried comes back under a new id: its shares may be on their way to others under the old one, and
        what it had begun under that is to be refused.
        """
        life = self.id
        if not (life and peers.renew(life, VALID_S)):
            life = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
            peers.register(life, VALID_S)
        peers.bury()
        self._alive = peers.count()
        fair = math.ceil(SHARES / max(1, self._alive))
        mine = peers.shares_of(life)
        if len(mine) < fair:
            peers.claim(life, fair - len(mine))
            mine = peers.shares_of(life)
        return life, mine, fair

    def _live_on(self, life: str, mine: list[int], fair: int, now: float) -> None:
        """What was committed holds from now on; what is too much is given back once no work on it is in progress."""
        if life != self.id:
            if self.id:
                self._figures["replica_deaths_total"] += 1
                logger.warning("this replica was taken for dead; it begins anew")
            self._shares.begin(life)
        self._shares.take_over(mine[:fair])
        self._surplus = mine[fair:]
        self._shares.extend(now + VALID_S - MARGIN_S)

    def _hear(self, told: "Sequence[Told]") -> None:
        items: list[BulletinItem] = []
        missed = False
        first = self._known is None
        before = self._known or {}
        for peer in told:
            known = before.get(peer.replica, peer.number if first else 0)
            bulletin, some_missed = read_bulletin(peer.news, known)
            if bulletin is not None:
                self._backlogs[peer.replica] = bulletin.backlog_bytes
                items += bulletin.items
                missed = missed or some_missed
        self._known = {peer.replica: peer.number for peer in told}
        for replica in before.keys() - self._known.keys():  # what it told last may not have been heard
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
            if self._revisions.get(name) != number:  # at first, too: it may have changed since it was read
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
