"""The service put together: settings in, a FastAPI app out, whose lifespan opens and closes every part in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from anyio import CapacityLimiter
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tallyboard.version import __version__
from tallyboard_server.access import Access
from tallyboard_server.api import board, docspage, problems, reports
from tallyboard_server.api import static as static_files
from tallyboard_server.api.authorise import authorised, check_complete, protected
from tallyboard_server.api.board import Board
from tallyboard_server.api.body import BodyReader
from tallyboard_server.api.connections import ConnectionLimits, Connections
from tallyboard_server.api.direct import DirectReports
from tallyboard_server.api.documented import hidden
from tallyboard_server.api.edge import Edge
from tallyboard_server.api.fairness import FairShare
from tallyboard_server.api.guard import Guard
from tallyboard_server.api.listeners import Live
from tallyboard_server.api.openapi import openapi_document
from tallyboard_server.api.rates import Rates
from tallyboard_server.api.routes import API_PREFIX, ROUTERS
from tallyboard_server.api.safety import remove_unfinished_copies
from tallyboard_server.api.service import Service, principal_of
from tallyboard_server.api.static import STATIC, BuiltFiles
from tallyboard_server.api.traffic import Traffic
from tallyboard_server.contract import RunLimits
from tallyboard_server.eventfiles import AnyExporter, Destination, ExportSettings
from tallyboard_server.ingest import Bounds, HeartbeatKeeper, Ingest, Merger
from tallyboard_server.joining import Views, open_store
from tallyboard_server.notify import Notifier, Outbox, Webhook
from tallyboard_server.retention import Pruner, Rules, Worker
from tallyboard_server.runtable import Overview
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import Store
from tallyboard_server.watch import RuleBook, Watcher
from tallyboard_server.watch import Rules as WatchRules

LARGE_DECODES_AT_ONCE_MAX: Final = 2
"""A JSON body may take twenty times its bytes while it is decoded, and more at once would only share one core."""
VERIFICATIONS_AT_ONCE_MAX: Final = 1
"""Each reads as fast as half a core lets it."""

EXPORTS_AT_ONCE_MAX: Final = 8
"""Each holds a page, or a Parquet row group of some 50 MB, for as long as its reader takes."""


class App:
    """The service as an ASGI app: reports take the direct way, everything else goes through FastAPI."""

    def __init__(
        self, fastapi: FastAPI, settings: Settings, traffic: Traffic, access: Access, connections: Connections
    ) -> None:
        """connections: what the server that serves this app makes of those that come."""
        rates = Rates(settings.rate_per_token)
        guarded = partial(Guard, settings=settings, traffic=traffic, access=access, rates=rates)
        self.access = access
        self.connections = connections
        self.traffic = traffic
        self.fastapi = fastapi
        self.fastapi.add_middleware(guarded)
        front = DirectReports(fastapi, prefix=API_PREFIX, guarded=guarded)
        self._edge = Edge(front, settings=settings, traffic=traffic)

    def drain(self) -> None:
        """Be ready no more. May be called by a signal's handler, again and again."""
        self.traffic.draining = True

    def end_streams(self) -> None:
        """End what would stay open for ever; a server calls it before it waits for its requests to end."""
        service = getattr(self.fastapi.state, "service", None)
        if isinstance(service, Service):
            service.live.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        scope["app"] = self.fastapi  # where requests find the running service
        await self._edge(scope, receive, send)


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,
    static: Path = STATIC,
    own_token: str | None = None,
) -> App:
    """The app for a service that is not running yet; serving it opens the data dir. static: the dashboard's files.

    own_token: what services that share a port take from each other, if this one is not alone there.

    The lifespan raises StoreError if the data dir can't be had.
    """
    traffic = Traffic()
    may_be_open = settings.on_loopback or settings.insecure
    access = Access(settings.token_text, may_be_open=may_be_open, clock=clock, own_token=own_token)
    connections = Connections(_connection_limits(settings))
    page = BuiltFiles(static, immutable=False)
    tensorboard = Board(body_timeout_s=settings.body_timeout_s) if settings.tensorboard else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            running(settings, clock, traffic, access, page, connections) as service,
            showing(tensorboard, service),
        ):
            app.state.service = service
            yield

    app = FastAPIOffline(
        docs_url=None, redoc_url=None, static_url=docspage.ASSETS,
        title="Tallyboard", version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan, redirect_slashes=False, dependencies=[Depends(authorised)],
    )  # fmt: skip
    _declare_docs(app)
    reporting = Route(f"{API_PREFIX}/scalars/{{run:path}}", reports.report, methods=["POST"])
    app.router.routes.insert(0, protected(reporting, reports.NEEDED))
    for prefix, router in ROUTERS:
        app.include_router(router, prefix=prefix)
    docs = docspage.routes(f"{app.title} API", str(app.openapi_url))
    app.router.routes.extend(protected(route, "read") for route in docs)
    if tensorboard is not None:
        app.router.routes.extend(protected(route, "read") for route in board.routes(tensorboard))
    app.router.routes.extend(protected(route, "read") for route in static_files.routes(page, static))
    for kind in (*problems.KINDS, problems.ApiError, HTTPException):
        app.add_exception_handler(kind, problems.handle)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    check_complete(app, (router for _, router in ROUTERS))
    return App(app, settings, traffic, access, connections)


@asynccontextmanager
async def running(
    settings: Settings,
    clock: Callable[[], float],
    traffic: Traffic,
    access: Access,
    page: BuiltFiles,
    connections: Connections,
) -> AsyncIterator[Service]:
    """Open the store, start the writer and the views on it; on the way out stop them in the opposite order."""
    async with AsyncExitStack() as stack:

        def on_exit(stop: Callable[[], object]) -> None:
            stack.push_async_callback(run_in_threadpool, stop)

        joining = await run_in_threadpool(open_store, settings)
        store, shares = joining.store, joining.shares
        on_exit(store.close)
        await run_in_threadpool(remove_unfinished_copies, settings.data_dir)
        book = RuleBook(_watch_rules(settings))
        await run_in_threadpool(book.load, store)
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
        stack.callback(live.stop)
        record = joining.record(ingest.record)
        destination = Destination(settings.event_file_dir, timeout_s=settings.object_timeout_s)
        exporter = destination.exporter(
            store, record,
            settings=_export_settings(settings),
            segment_interval_s=settings.segment_interval_s, segment_bytes=settings.segment_bytes, shares=shares,
        )  # fmt: skip
        merger = Merger(store, record, clock=clock, shares=shares)

        def changed(run_id: int, run: str) -> None:
            live.changed(run)
            joining.changed(run_id, run)

        watcher = Watcher(
            store, record, ingest.heartbeats, book, outbox, changed=changed, clock=clock, shares=shares
        )  # fmt: skip
        _follow(ingest, exporter, merger)
        ingest.on_commit(live.committed)
        ingest.on_commit(outbox.committed)
        if settings.watchdogs:
            ingest.on_commit(watcher.inbox.committed)
            ingest.on_refused(watcher.inbox.refused)
        ingest.start()
        on_exit(ingest.close)  # after the views: their last records go through the writer
        access.on_end(live.look_again)
        await run_in_threadpool(access.open, store, ingest.record)
        on_exit(access.close)
        keeper = HeartbeatKeeper(ingest.heartbeats, store, ingest.record, clock)
        await run_in_threadpool(keeper.start)
        on_exit(keeper.stop)
        revised: dict[str, Callable[[], object]] = {"access": access.reload, "rules": partial(book.load, store)}
        await run_in_threadpool(joining.start, Views(ingest, live, exporter, merger, watcher, revised))
        on_exit(joining.stop)  # first of all that works on shares: the others take them over once that has ended
        exporter.start()
        on_exit(exporter.stop)
        merger.start()
        on_exit(merger.stop)

        pruner = Pruner(
            store, ingest.record, ingest.submit_blocking, ingest.heartbeats.last_seen, clock,
            thinned=partial(_tell_thinned, store, exporter, changed),
        )  # fmt: skip
        retention = Worker(pruner, _retention_rules(settings), shares=shares)
        retention.start()
        on_exit(retention.stop)
        notifier = Notifier(
            store, ingest.record, outbox,
            owner_of=book.owner_of, webhook_at=book.webhook_at, public_url=settings.public_url, clock=clock,
            active=partial(shares.has, 0),
        )  # fmt: skip
        notifier.start()
        on_exit(notifier.stop)
        if settings.watchdogs:
            watcher.start()
            on_exit(watcher.stop)
        fairness = _fair_share(settings, traffic)
        yield Service(
            settings=settings,
            store=store,
            ingest=ingest,
            bodies=_bodies(settings, ingest),
            fairness=fairness,
            chart_reads=CapacityLimiter(settings.chart_reads_at_once_max),
            large_decodes=CapacityLimiter(LARGE_DECODES_AT_ONCE_MAX),
            verifications=CapacityLimiter(VERIFICATIONS_AT_ONCE_MAX),
            exports=CapacityLimiter(EXPORTS_AT_ONCE_MAX),
            copying=asyncio.Lock(),
            event_files=exporter,
            shelf=destination.shelf(store),
            shares=shares,
            rebuild_elsewhere=joining.rebuild,
            pruner=pruner,
            clock=clock,
            traffic=traffic,
            access=access,
            page=page,
            live=live,
            overview=Overview(store),
            views={
                "exporter": exporter,
                "merger": merger,
                "retention": retention,
                "live": live,
                "connections": connections,
                "fairness": fairness,
                "watchdogs": watcher,
                "notices": notifier,
                "replicas": joining,
            },
            rules=book,
            notifier=notifier,
            check_views=partial(check_exporter, exporter, settings.export_backlog_bytes_max),
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


def _fair_share(settings: Settings, traffic: Traffic) -> FairShare:
    return FairShare(
        settings.run_requests_at_once_max,
        settings.run_bytes_at_once_max,
        settings.run_requests_waiting_max,
        aside=traffic.set_aside,
    )


def _bodies(settings: Settings, ingest: Ingest) -> BodyReader:
    return BodyReader(
        ingest.budget,
        settings.body_timeout_s,
        settings.body_bytes_max,
        project_of=lambda request: principal_of(request).project,
        project_bytes_max=settings.budget_bytes_max // 2,
    )


def _declare_docs(app: FastAPI) -> None:
    """The pages of the documentation, which FastAPI made by itself, are for anybody with a token."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            route.openapi_extra = hidden(needs="read")["openapi_extra"]
        else:
            protected(route, "read")


@asynccontextmanager
async def showing(tensorboard: Board | None, service: Service) -> AsyncIterator[None]:
    """Show the service's store in TensorBoard, if there is one."""
    if tensorboard is None:
        yield
        return
    tensorboard.open(service.store)
    try:
        yield
    finally:
        await run_in_threadpool(tensorboard.close)


def check_exporter(exporter: AnyExporter, backlog_bytes_max: int) -> list[str]:
    """Why event files do not follow the store, in sentences; none if they do."""
    reasons = exporter.faults()
    if (behind := exporter.backlog_bytes()) > backlog_bytes_max:
        reasons.append(f"event files are {behind} bytes behind; reports are refused until they catch up")
    return reasons


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


def _connection_limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        connections_max=settings.connections_max,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        send_timeout_s=settings.send_timeout_s,
        header_bytes_max=settings.header_bytes_max,
    )


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
