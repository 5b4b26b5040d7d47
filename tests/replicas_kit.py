"""Replicas on one PostgreSQL that take their turns when the test says so, by clocks that stand still."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tallyboard_server.ingest import Ingest
from tallyboard_server.replicas import BulletinItem, HeldShares, Replica, Teller
from tallyboard_server.replicas.replica import RENEW_EVERY_S
from tallyboard_server.shares import SHARES
from tallyboard_server.store.postgres import PostgresStore
from tests.eventfiles_kit import Clock
from tests.postgres_stores import PostgresStores

CONNECTIONS_MAX = 4


@dataclass
class Ear:
    """What a replica heard."""

    items: list[BulletinItem] = field(default_factory=list)
    missed_count: int = 0

    def heard(self, items: Sequence[BulletinItem]) -> None:
        """See Hearing.heard."""
        self.items += items

    def missed(self) -> None:
        """See Hearing.missed."""
        self.missed_count += 1


class Node:
    """One replica: a store, a writer, shares and news, and no thread but the writer's."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.clock = clock
        self.store = PostgresStore(url, connections_max=CONNECTIONS_MAX)
        self.ingest = Ingest(self.store)
        self.held = HeldShares(clock)
        self.teller = Teller(lambda _done: False, clock)
        self.ear = Ear()
        self.backlog = 0
        self.revised: list[str] = []
        self.replica = Replica(
            self.store, self.held, self.teller, self.ear,
            backlog_bytes=lambda: self.backlog, revised=self.revised.append, clock=clock,
        )  # fmt: skip
        self.ingest.on_commit(self.teller.committed)
        self.ingest.start()

    @property
    def shares(self) -> set[int]:
        """Those that it may work on now."""
        return {number for number in range(SHARES) if self.held.has(number)}

    def renew(self) -> None:
        """A turn in which it is time to show a sign of life."""
        self.clock.now += RENEW_EVERY_S
        self.replica.turn()

    def close(self) -> None:
        """End it without a word to the others."""
        self.ingest.close()
        self.store.close()


class Nodes:
    """Some replicas on one database."""

    def __init__(self, stores: PostgresStores, folder: Path) -> None:
        self.stores = stores
        self.folder = folder
        self.url = stores.url(folder)
        self._stack = ExitStack()

    def join(self) -> Node:
        """One more, which did not take a turn yet; with a clock of its own."""
        node = Node(self.url, Clock(1000.0))
        self._stack.callback(node.close)
        return node

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Ask the database itself."""
        return self.stores.server.query(statement, *parameters, database=self.stores.database(self.folder))

    def silence(self, node: Node) -> None:
        """Have a replica's time be over, for the database."""
        self.query(
            "UPDATE replicas SET valid_until = clock_timestamp() - interval '1 s' WHERE id = %s", node.replica.id
        )

    def holders(self) -> dict[int, str]:
        """Who holds which share, of those who are alive."""
        rows = self.query("SELECT s.number, s.holder FROM shares s JOIN replicas r ON r.id = s.holder")
        return {int(str(number)): str(holder) for number, holder in rows}

    def close(self) -> None:
        """End all of them."""
        self._stack.close()
        self.stores.remove(self.folder)


@contextmanager
def joined(stores: PostgresStores, folder: Path) -> Iterator[Nodes]:
    """Replicas on a new database, as long as the block."""
    nodes = Nodes(stores, folder)
    try:
        yield nodes
    finally:
        nodes.close()


def settled(nodes: Sequence[Node], at_each: Callable[[], None] = lambda: None) -> None:
    """Renew them in turn until nothing changes any more; `at_each` is called after every turn."""
    before: list[set[int]] = []
    for _ in range(20):
        for node in nodes:
            node.renew()
            at_each()
        now = [node.shares for node in nodes]
        if now == before and sum(map(len, now)) == SHARES:
            return
        before = now
    raise AssertionError([len(node.shares) for node in nodes])
