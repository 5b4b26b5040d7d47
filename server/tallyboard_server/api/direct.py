"""The way of reports past the framework: the one route that is asked all the time is called directly.

FastAPI's layers (routing, exit stacks, two nested exception handlers) cost a third of a small report's time on the
event loop. They give this route nothing: it reads its own body, and the guard around it answers what it raises.
"""

from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tallyboard_server.api.reports import report

_METHOD: Final = "POST"


class DirectReports:
    """Answers POST <prefix>/scalars/{run} itself and hands everything else on."""

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        self._app = app
        self._path = f"{prefix}/scalars/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http" or scope["method"] != _METHOD or not scope["path"].startswith(self._path):
            await self._app(scope, receive, send)
            return
        scope["path_params"] = {"run": scope["path"][len(self._path) :]}
        response = await report(Request(scope, receive))
        await response(scope, receive, send)
