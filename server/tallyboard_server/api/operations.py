"""What operators ask: is it alive, is it ready, how is it doing; and the page at the root."""

import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from tallyboard.wire.limits import MIB
from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer
from tallyboard_server.api.documented import Given, documented, hidden
from tallyboard_server.api.messages import Readiness
from tallyboard_server.api.page import ROOT_CSP, root_page
from tallyboard_server.api.prometheus import CONTENT_TYPE, Sample, exposition
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.api.static import INDEX
from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.store.protocol import StoreError

FREE_BYTES_MIN: Final = 64 * MIB
"""Free disk space below which the service says that it is not ready: a few groups more would fill it."""
STARTED_AT: Final = time.time()
WRITE_TIMEOUT_S: Final = 5.0
WARNINGS_MAX: Final = 100

router = APIRouter(tags=["operations"])
root = APIRouter()


@router.get(
    "/healthz",
    **documented(
        "healthz",
        "Is the process alive?",
        needs=None,
        answers={200: Given(str, "ok", "It answers.")},
    ),
)
async def healthz() -> Response:
    """Answered to anybody, without a token: it says nothing but that the process answers."""
    return PlainTextResponse("ok")


@router.get(
    "/readyz",
    **documented(
        "readyz",
        "Can it take reports and show them?",
        needs="read", all_projects=True,
        answers={
            200: Given(Readiness, examples.READY, "Ready."),
            503: Given(Readiness, examples.READY | {"ready": False, "reasons": ["the disk is full"]},
                       "Not ready, for these reasons."),
        },
    ),
)  # fmt: skip
def readyz(request: Request, service: Running) -> Response:
    """Whether the store can be written and the views follow it."""
    found = readiness(service)
    return answer(request, found, status=200 if found.ready else 503)


@router.get(
    "/metrics",
    **documented(
        "metrics",
        "Figures for Prometheus",
        needs="read",
        all_projects=True,
        answers={200: Given(str, examples.METRICS, "Text format 0.0.4.")},
    ),
)
def metrics(service: Running) -> Response:
    """Counters and gauges of store, ingest, views, HTTP and process."""
    samples = [*_samples(service), *service.traffic.samples(), *_process()]
    return Response(exposition(samples), media_type=CONTENT_TYPE)


@root.get("/", **hidden(needs="read"))
async def index(request: Request, service: Running, asking: Asking) -> Response:
    """The dashboard or, if it was never built, a page that says what this is."""
    if service.page.has(INDEX):
        return await service.page.get_response(INDEX, request.scope)
    settings = service.settings
    logdir = str(settings.event_file_dir) if asking.project is None else None
    page = root_page(str(request.base_url).rstrip("/"), logdir, tensorboard=settings.tensorboard)
    return HTMLResponse(page, headers={"Content-Security-Policy": ROOT_CSP})


def readiness(service: Service) -> Readiness:
    """Ask every part; a reason for each that can't do its work."""
    reasons: list[str] = ["the service is shutting down"] if service.traffic.draining else []
    free = shutil.disk_usage(service.settings.data_dir).free
    if free < FREE_BYTES_MIN:
        reasons.append(f"only {free} bytes are free in {service.settings.data_dir}; make room")
    if not service.ingest.is_alive():
        reasons.append("the writer has stopped; restart the service")
    else:
        try:
            service.ingest.record(lambda _transaction: None, WRITE_TIMEOUT_S)
        except FutureTimeoutError:
            reasons.append(f"the store did not commit within {WRITE_TIMEOUT_S:g} s")
        except (StoreError, IngestError) as error:
            reasons.append(f"the store can't be written: {error}")
    reasons.extend(service.check_views())
    logdir = service.settings.logdir_shown
    checks: dict[str, Any] = {"free_bytes": free, "logdir": logdir, **service.ingest.stats()}
    for view in service.views.values():
        checks.update(view.stats())
    warnings = service.event_files.warnings()[:WARNINGS_MAX]
    return Readiness(ready=not reasons, reasons=reasons, checks=checks, warnings=warnings)


def _samples(service: Service) -> Iterator[Sample]:
    for reason, count in service.ingest.refused_by_reason.items():
        yield Sample("ingest_refused_reports_total", count, {"reason": reason})
    figures = [service.store.stats(), service.ingest.stats(), *(v.stats() for v in service.views.values())]
    for part in figures:
        for name, value in part.items():
            yield Sample(name, value)


def _process() -> Iterator[Sample]:
    """Memory and descriptors, where the system tells them as Linux does."""
    status = Path("/proc/self/statm")
    if status.exists():
        pages = int(status.read_text().split()[1])
        yield Sample("process_resident_memory_bytes", pages * os.sysconf("SC_PAGE_SIZE"))
        yield Sample("process_open_fds", sum(1 for _ in Path("/proc/self/fd").iterdir()))
    yield Sample("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield Sample("process_cpu_seconds_total", time.process_time())
    yield Sample("process_start_time_seconds", STARTED_AT)
    yield Sample("process_threads", threading.active_count())
