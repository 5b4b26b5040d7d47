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
from tallyboard_server.api.openapi import openapi_document
from tallyboard_server.api.rates import Rates
from tallyboard_server.api.routes import API_PREFIX, ROUTERS
from tallyboard_server.api.safety import remove_unfinished_copies
from tallyboard_server.api.service import Service, principal_of
from tallyboard_server.api.static import STATIC, BuiltFiles
from tallyboard_server.api.traffic import Traffic
from tallyboard_server.eventfiles import AnyExporter
from tallyboard_server.ingest import Ingest
from tallyboard_server.membership import open_store
from tallyboard_server.parts import make_parts
from tallyboard_server.runtable import Overview
from tallyboard_server.settings import Settings

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
    """Open the store and start what works on it; on the way out stop that in the opposite order."""
    async with AsyncExitStack() as stack:
        membership = await run_in_threadpool(open_store, settings)
        stack.push_async_callback(run_in_threadpool, membership.store.close)
        await run_in_threadpool(remove_unfinished_copies, settings.data_dir)
        parts = make_parts(settings, clock, membership)
        await run_in_threadpool(parts.book.load, membership.store)
        await parts.start(stack, access, watchdogs=settings.watchdogs)
        fairness = _fair_share(settings, traffic)
        yield Service(
            settings=settings,
            store=membership.store,
            ingest=parts.ingest,
            bodies=_bodies(settings, parts.ingest),
            fairness=fairness,
            chart_reads=CapacityLimiter(settings.chart_reads_at_once_max),
            large_decodes=CapacityLimiter(LARGE_DECODES_AT_ONCE_MAX),
            verifications=CapacityLimiter(VERIFICATIONS_AT_ONCE_MAX),
            exports=CapacityLimiter(EXPORTS_AT_ONCE_MAX),
            copying=asyncio.Lock(),
            event_files=parts.exporter,
            shelf=parts.shelf,
            shares=membership.shares,
            rebuild_elsewhere=membership.rebuild,
            pruner=parts.pruner,
            clock=clock,
            traffic=traffic,
            access=access,
            page=page,
            live=parts.live,
            overview=Overview(membership.store),
            views={**parts.views, "connections": connections, "fairness": fairness},
            rules=parts.book,
            notifier=parts.notifier,
            check_views=partial(check_exporter, parts.exporter, settings.export_backlog_bytes_max),
        )


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


def _connection_limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        connections_max=settings.connections_max,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        send_timeout_s=settings.send_timeout_s,
        header_bytes_max=settings.header_bytes_max,
    )
