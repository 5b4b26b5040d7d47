"""The way of reports past the framework: the one route that is asked all the time is called directly.

FastAPI's layers (telemetry, routing, exit stacks, nested exception handlers) cost a third of a small report's time on
the event loop. They give this route nothing: it reads its own body, and the guard around it answers what it raises.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tallyboard_server.api.authorise import check
from tallyboard_server.api.login import path_of
from tallyboard_server.api.reports import NEEDED, report


class DirectReports:
    """Answers POST <prefix>/scalars/{run} behind a guard of its own, and hands everything else on."""

    def __init__(self, app: ASGIApp, *, prefix: str, guarded: Callable[[ASGIApp], ASGIApp]) -> None:
        """`guarded` puts the guard before an app, as it stands before the routes of `app`."""
        self._app = app
        self._path = f"{prefix}/scalars/"
        self._report = guarded(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        direct = scope["type"] == "http" and scope["method"] == "POST" and path_of(scope).startswith(self._path)
        await (self._report if direct else self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path_params"] = {"run": path_of(scope)[len(self._path) :]}
        check(scope, NEEDED)
        response = await report(Request(scope, receive))
        await response(scope, receive, send)
