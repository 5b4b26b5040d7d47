"""GET /live: server-sent events of which runs changed, to pages that stay open."""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, ClassVar, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tallyboard_server.api import examples
from tallyboard_server.api.documented import Given, documented
from tallyboard_server.api.listeners import Live
from tallyboard_server.api.problems import TooBusyError
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.reach import of_project
from tallyboard_server.api.service import Asking, Running
from tallyboard_server.api.traffic import Traffic

EVENT_STREAM: Final = "text/event-stream"

router = APIRouter(tags=["dashboard"])


class ListenersTooManyError(TooBusyError):
    """As many pages listen as the service lets."""

    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "30"}


class LiveResponse(StreamingResponse):
    """A stream that lasts as long as its reader stays: counted as a listener, not as a request in flight."""

    def __init__(self, live: Live, events: AsyncIterator[bytes], traffic: Traffic) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type=EVENT_STREAM)
        self._live = live
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        with self._live.listening(), self._traffic.set_aside():
            await super().__call__(scope, receive, send)


@router.get(
    "/live",
    **documented(
        "live",
        "Hear which runs change",
        needs="read",
        answers={200: Given(str, examples.LIVE, "Events, for as long as the connection lasts.",
                            media_type=EVENT_STREAM)},
        problems=("invalid_query",),
    ),
)  # fmt: skip
async def live(
    request: Request,
    service: Running,
    asking: Asking,
    project: Annotated[str | None, Query(description="What the runs' names begin with, up to a slash.")] = None,
) -> Response:
    """Server-sent events. The first is `hello`: the service's `version`, and `boot`, which is another after each
    start. `changed` then names `runs` that have new points or look otherwise, and those `deleted`, a few times a
    second at most; with `resync` true they were too many to name: everything may have changed.

    Nothing is told of what changed before `hello`: whoever connects, also again, asks for what it shows after that.
    What changes by itself (how long a run is idle, that it is lost until a watchdog finds it) is not told, nor are
    heartbeats.
    """
    check_known(request, ("project",))
    most = service.settings.live_clients_max
    if service.live.listeners >= most:
        raise ListenersTooManyError(f"{most} pages listen already (TALLYBOARD_LIVE_CLIENTS_MAX); close some")
    events = service.live.events(of_project(asking, project), partial(service.access.is_good, asking))
    return LiveResponse(service.live, events, service.traffic)
