"""The service put together: settings in, a FastAPI app out, whose lifespan opens and closes every part in order."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route

from tallyboard_server.api import charts, operations, problems, reports, runs
from tallyboard_server.api.body import BodyReader
from tallyboard_server.api.guard import Guard
from tallyboard_server.api.openapi import openapi_document
from tallyboard_server.api.service import Service
from tallyboard_server.api.traffic import Traffic
from tallyboard_server.ingest import Ingest, Merger
from tallyboard_server.settings import Settings, check_exposure
from tallyboard_server.store.sqlite.store import SqliteStore

API_PREFIX = "/api/v1"


def create_app(settings: Settings, *, clock: Callable[[], float] = time.time) -> FastAPI:
    """The app for a service that is not running yet; serving it opens the data dir.

    Raises ExposureError if it would be open to anybody. The lifespan raises StoreError if the data dir can't be had.
    """
    check_exposure(settings)
    traffic = Traffic()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, clock, traffic) as service:
            app.state.service = service
            yield

    app = FastAPIOffline(
        docs_url="/docs", redoc_url=None, static_url="/docs-assets", swagger_ui_oauth2_redirect_url="/docs/oauth2",
        title="Tallyboard", version=version("tallyboard"),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan, redirect_slashes=False,
    )  # fmt: skip
    # The ingest route first, and past FastAPI's parameter machinery: it is the one that is asked all the time.
    app.router.routes.insert(0, Route(f"{API_PREFIX}/scalars/{{run:path}}", reports.report, methods=["POST"]))
    for part in (runs.router, reports.router, charts.router):
        app.include_router(part, prefix=API_PREFIX)
    app.include_router(operations.router)
    app.include_router(operations.root)
    for kind in (*problems.KINDS, problems.ApiError, HTTPException):
        app.add_exception_handler(kind, problems.handle)
    app.add_middleware(Guard, settings=settings, traffic=traffic)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def running(settings: Settings, clock: Callable[[], float], traffic: Traffic) -> AsyncIterator[Service]:
    """Open the store, start the writer and its views; on the way out stop them in the opposite order."""
    store = await run_in_threadpool(SqliteStore.open, settings.data_dir)
    try:
        ingest = Ingest(store, budget_bytes=settings.budget_bytes_max, clock=clock)
        merger = Merger(store, ingest.record)
        ingest.on_commit(merger.notify)
        ingest.start()
        merger.start()
        try:
            yield Service(
                settings=settings,
                store=store,
                ingest=ingest,
                bodies=BodyReader(ingest.budget, settings.body_timeout_s),
                chart_reads=CapacityLimiter(settings.chart_reads_at_once_max),
                clock=clock,
                traffic=traffic,
                views={"merger": merger},
                check_views=list,
            )
        finally:
            await run_in_threadpool(merger.stop)
            await run_in_threadpool(ingest.close)
    finally:
        await run_in_threadpool(store.close)
