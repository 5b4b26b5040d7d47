"""The parts of a running service: made with what they need of each other, and started in the order that this asks."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from starlette.concurrency import run_in_threadpool

from tallyboard_server.access import Access
from tallyboard_server.api.listeners import Live
from tallyboard_server.api.service import View
from tallyboard_server.contract import RunLimits
from tallyboard_server.eventfiles import AnyExporter, Destination, ExportSettings, Shelf
from tallyboard_server.ingest import Bounds, HeartbeatKeeper, Ingest, Merger
from tallyboard_server.membership import Membership, Views
from tallyboard_server.notify import Notifier, Outbox, Webhook
from tallyboard_server.retention import Pruner, Rules, Worker
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import Store
from tallyboard_server.watch import RuleBook, Watcher
from tallyboard_server.watch import Rules as WatchRules


@dataclass(slots=True, frozen=True)
class Parts:
    """What works beside the requests. membership: with which other services; it has the store."""

    membership: Membership
    live: Live
    book: RuleBook
    ingest: Ingest
    keeper: HeartbeatKeeper
    exporter: AnyExporter
    shelf: Shelf
    merger: Merger
    watcher: Watcher
    pruner: Pruner
    retention: Worker
    notifier: Notifier

    @property
    def views(self) -> Mapping[str, View]:
        """Those that have figures, by name."""
        return {
            "exporter": self.exporter,
            "merger": self.merger,
            "retention": self.retention,
            "live": self.live,
            "watchdogs": self.watcher,
            "notices": self.notifier,
            "replicas": self.membership,
        }

    async def start(self, stack: AsyncExitStack, access: Access, *, watchdogs: bool) -> None:
        """Start all; `stack` stops them in the opposite order, each on a thread. Raises StoreError or OSError."""

        def on_exit(stop: Callable[[], object]) -> None:
            stack.push_async_callback(run_in_threadpool, stop)

        store, ingest = self.membership.store, self.ingest
        stack.callback(self.live.stop)
        ingest.start()
        on_exit(ingest.close)  # after the views: their last records go through the writer
        access.on_end(self.live.look_again)
        await run_in_threadpool(access.open, store, ingest.record)
        on_exit(access.close)
        await run_in_threadpool(self.keeper.start)
        on_exit(self.keeper.stop)
        revised: dict[str, Callable[[], object]] = {"access": access.reload, "rules": partial(self.book.load, store)}
        views = Views(ingest, self.live, self.exporter, self.merger, self.watcher, revised)
        await run_in_threadpool(self.membership.start, views)
        on_exit(self.membership.stop)  # after all that works on shares: only then may others take these over
        self.exporter.start()
        on_exit(self.exporter.stop)
        self.merger.start()
        on_exit(self.merger.stop)
        self.retention.start()
        on_exit(self.retention.stop)
        self.notifier.start()
        on_exit(self.notifier.stop)
        if watchdogs:
            self.watcher.start()
            on_exit(self.watcher.stop)


def make_parts(settings: Settings, clock: Callable[[], float], membership: Membership) -> Parts:
    """Make all, of which none does anything yet. On the event loop that the service runs on."""
    store, shares = membership.store, membership.shares
    book = RuleBook(_watch_rules(settings))
    outbox = Outbox(lambda run: book.owner_of(run) is not None)
    ingest = Ingest(
        store,
        budget_bytes=settings.budget_bytes_max,
        backlog_bytes_max=settings.export_backlog_bytes_max,
        bounds=_bounds(settings),
        clock=clock,
        queue=outbox.put,
    )
    live = Live()
    record = membership.fenced(ingest.record)

    def changed(run_id: int, run: str) -> None:
        live.changed(run)
        membership.changed(run_id, run)

    destination = Destination(settings.event_file_dir, timeout_s=settings.object_timeout_s)
    exporter = destination.exporter(
        store, record,
        settings=_export_settings(settings),
        segment_interval_s=settings.segment_interval_s, segment_bytes=settings.segment_bytes, shares=shares,
    )  # fmt: skip
    merger = Merger(store, record, clock=clock, shares=shares)
    watcher = Watcher(store, record, ingest.heartbeats, book, outbox, changed=changed, clock=clock, shares=shares)
    pruner = Pruner(
        store, ingest.record, ingest.submit_blocking, ingest.heartbeats.last_seen, clock,
        thinned=partial(_tell_thinned, store, exporter, changed),
    )  # fmt: skip
    notifier = Notifier(
        store, ingest.record, outbox,
        owner_of=book.owner_of, webhook_at=book.webhook_at, public_url=settings.public_url, clock=clock,
        active=partial(shares.has, 0),
    )  # fmt: skip
    _follow(ingest, exporter, merger)
    ingest.on_commit(live.committed)
    ingest.on_commit(outbox.committed)
    if settings.watchdogs:
        ingest.on_commit(watcher.inbox.committed)
        ingest.on_refused(watcher.inbox.refused)
    return Parts(
        membership=membership,
        live=live,
        book=book,
        ingest=ingest,
        keeper=HeartbeatKeeper(ingest.heartbeats, store, ingest.record, clock),
        exporter=exporter,
        shelf=destination.shelf(store),
        merger=merger,
        watcher=watcher,
        pruner=pruner,
        retention=Worker(pruner, _retention_rules(settings), shares=shares),
        notifier=notifier,
    )


def _follow(ingest: Ingest, exporter: AnyExporter, merger: Merger) -> None:
    """Have event files and merges hear of what is committed, and intake wait for them if they fall far behind."""
    ingest.on_commit(lambda done: exporter.notify([item.state.id for item in done]))
    ingest.on_commit(merger.notify)
    ingest.watch_backlog(exporter.backlog_bytes)
    ingest.watch_backlog(merger.backlog_bytes, "merges")


def _tell_thinned(store: Store, exporter: AnyExporter, changed: Callable[[int, str], None], run_id: int) -> None:
    """Retention has removed points of a run: its event file and the pages that show it are to follow."""
    exporter.notify([run_id])
    with store.snapshot() as view:
        head = view.head(run_id)
    if head is not None:
        changed(run_id, head.name)


def _export_settings(settings: Settings) -> ExportSettings:
    return ExportSettings(interval_s=settings.export_interval_s, sync_interval_s=settings.export_sync_interval_s)


def _bounds(settings: Settings) -> Bounds:
    run = RunLimits(
        tags=settings.tags_per_run_max,
        counters=settings.counters_per_run_max,
        attempts_per_counter=settings.attempts_per_counter_max,
        producers=settings.producers_per_run_max,
    )
    return Bounds(run, settings.runs_per_project_max)


def _retention_rules(settings: Settings) -> Rules:
    return Rules(
        superseded_days=settings.retention_superseded_days,
        thin_days=settings.retention_thin_days,
        thin_points=settings.retention_thin_points,
        runs_days=settings.retention_runs_days,
    )


def _watch_rules(settings: Settings) -> WatchRules:
    url = settings.webhook_text
    webhook = None if url is None else Webhook(url, settings.webhook_format)
    return WatchRules(lost_after_s=settings.lost_after_s, webhook=webhook)
