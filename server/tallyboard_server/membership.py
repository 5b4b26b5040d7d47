"""Whether a service has its store to itself or is one of several on it, and all that differs between the two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tallyboard_server.api.listeners import Live
from tallyboard_server.eventfiles import AnyExporter
from tallyboard_server.ingest import Ingest, Merger
from tallyboard_server.ingest.commands import Done
from tallyboard_server.replicas import BulletinItem, HeldShares, Replica, Teller
from tallyboard_server.settings import Settings
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Record, Store, StoreError
from tallyboard_server.store.sqlite.store import SqliteStore
from tallyboard_server.watch import Watcher, is_finite

if TYPE_CHECKING:
    from tallyboard_server.store.postgres import PostgresStore


@dataclass(slots=True, frozen=True)
class Views:
    """The parts of a service that follow what is committed; revised: see Replica."""

    ingest: Ingest
    live: Live
    exporter: AnyExporter
    merger: Merger
    watcher: Watcher
    revised: Mapping[str, Callable[[], object]]


class Membership(Protocol):
    """What a service is among those on its store. It is there before the service's parts, and starts after them."""

    @property
    def store(self) -> Store:
        """The store."""
        ...

    @property
    def shares(self) -> Shares:
        """The runs that this service works for."""
        ...

    def fenced(self, record: Record) -> Record:
        """Like `record`, for work on these runs: nothing is written by one whom the others take for dead."""
        ...

    def changed(self, run_id: int, run: str) -> None:
        """A run looks otherwise for a reason that is no command."""
        ...

    def rebuild(self, run_id: int, run: str) -> None:
        """Have whoever else writes a run's event file write it anew; lost if nobody holds the run at this moment."""
        ...

    def start(self, views: Views) -> None:
        """The views are there, and can be told. Raises StoreError."""
        ...

    def stop(self) -> None:
        """Leave the others."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Figures for /metrics."""
        ...


class SoleService:
    """With its store to itself: every run is its own, and there is nobody to be told."""

    shares: Shares = EVERYTHING

    def __init__(self, store: Store) -> None:
        self.store = store

    def fenced(self, record: Record) -> Record:
        """See Membership.fenced."""
        return record

    def changed(self, run_id: int, run: str) -> None:
        """See Membership.changed."""

    def rebuild(self, run_id: int, run: str) -> None:
        """See Membership.rebuild."""

    def start(self, views: Views) -> None:
        """See Membership.start."""

    def stop(self) -> None:
        """See Membership.stop."""

    def stats(self) -> Mapping[str, float]:
        """See Membership.stats."""
        return {}


class SharedService:
    """One of several: has its share of the runs, tells the others what it commits, and hears what they do."""

    def __init__(self, store: "PostgresStore") -> None:
        self.store: Store = store
        self._held = HeldShares()
        self._teller = Teller(_is_odd)
        self._views: Views | None = None
        self._replica = Replica(
            store, self._held, self._teller, self, backlog_bytes=self._backlog_bytes, revised=self._revised
        )

    @property
    def shares(self) -> Shares:
        """See Membership.shares."""
        return self._held

    def fenced(self, record: Record) -> Record:
        """See Membership.fenced."""
        return self._replica.fenced(record)

    def changed(self, run_id: int, run: str) -> None:
        """See Membership.changed."""
        self._teller.changed(run_id, run)

    def rebuild(self, run_id: int, run: str) -> None:
        """See Membership.rebuild."""
        self._teller.rebuild(run_id, run)

    def start(self, views: Views) -> None:
        """See Membership.start."""
        self._views = views
        views.ingest.on_commit(self._teller.committed)
        views.ingest.on_refused(self._teller.refused)
        views.ingest.watch_backlog(self._replica.backlog_bytes, "event files or merges of another replica")
        self._replica.start()

    def stop(self) -> None:
        """See Membership.stop."""
        self._replica.stop()

    def stats(self) -> Mapping[str, float]:
        """See Membership.stats."""
        return self._replica.stats()

    def heard(self, items: Sequence[BulletinItem]) -> None:
        """See Hearing.heard."""
        if (views := self._views) is None:
            return
        views.live.tell((item.name, item.deleted) for item in items)
        own = [item for item in items if self._held.has(item.run_id)]
        views.exporter.notify([item.run_id for item in own for _ in range(max(1, item.blocks))])
        for item in own:
            views.merger.grew(item.run_id, item.blocks, item.scalars)
            if item.rebuild:
                views.exporter.rebuild(item.run_id)
        views.watcher.hearsay.heard(own)

    def missed(self) -> None:
        """See Hearing.missed: pages look at everything again, watchdogs at what began or ended; the sweeps of exporter
        and merger find what they missed."""
        if self._views is not None:
            self._views.live.miss()
            self._views.watcher.hearsay.missed()

    def _backlog_bytes(self) -> int:
        views = self._views
        return 0 if views is None else max(views.exporter.backlog_bytes(), views.merger.backlog_bytes())

    def _revised(self, name: str) -> None:
        if self._views is not None and name in self._views.revised:
            self._views.revised[name]()


def open_store(settings: Settings) -> Membership:
    """The store that the settings name, and how the service stands with others on it. Raises StoreError."""
    if (url := settings.database_text) is None:
        return SoleService(SqliteStore.open(settings.data_dir))
    try:
        from tallyboard_server.store.postgres import PostgresStore
    except ImportError as error:
        raise StoreError(
            f"a store on PostgreSQL needs the extra `postgres` ({error}): pip install 'tallyboard[server,postgres]'"
        ) from error
    settings.data_dir.mkdir(parents=True, exist_ok=True)  # event files, unless they go elsewhere
    return SharedService(PostgresStore.open(url))


def _is_odd(done: Done) -> bool:
    return not all(map(is_finite, done.blocks))
