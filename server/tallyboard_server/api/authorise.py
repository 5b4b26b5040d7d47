"""What whoever asks may do: decided here for every route, by the scope that it declares, before it runs.

A route of FastAPI says what it needs with `documented(…, needs=…)` or `hidden(needs=…)`, any other is wrapped by
`protected`. One that says nothing is answered 403.
"""

from collections.abc import Iterable
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as RequestScope

from tallyboard_server.api.documented import ALL_PROJECTS, NEEDS
from tallyboard_server.api.problems import ForbiddenError
from tallyboard_server.api.service import PRINCIPAL
from tallyboard_server.ingest.errors import RunForbiddenError
from tallyboard_server.principal import Principal, Scope

_UNSAID: Final = "unsaid"


async def authorised(request: Request) -> None:
    """A dependency of the whole app: lets a request through to its route, or raises why not."""
    said: dict[str, Any] = getattr(request.scope.get("route"), "openapi_extra", None) or {}
    needs = said.get(NEEDS, _UNSAID)
    if needs == _UNSAID:
        raise ForbiddenError("this route does not say what it needs, so nobody may ask it; please report that")
    check(request.scope, needs, all_projects=bool(said.get(ALL_PROJECTS)))


def check(scope: RequestScope, needs: Scope | None, *, all_projects: bool = False) -> None:
    """Raise ForbiddenError or RunForbiddenError if whoever asks may not; needs None: anybody may."""
    if needs is None:
        return
    asking: Principal = scope[PRINCIPAL]
    if not asking.may(needs):
        raise ForbiddenError(
            f"this needs a token of scope {needs}; that of {asking.name!r} has {asking.scope}. "
            f"`tallyboard token create --scope {needs}` makes one"
        )
    if asking.project is None:
        return
    if all_projects:
        raise ForbiddenError(
            f"this is about the whole service, and the token of {asking.name!r} is for project {asking.project!r}; "
            "use one that is for all"
        )
    params = scope.get("path_params", {})
    run, project = params.get("run"), params.get("project")
    if run is not None and not asking.reaches(run):
        raise RunForbiddenError(f"run {run!r} is not in project {asking.project!r}, the only one of this token")
    if project is not None and not asking.reaches(f"{project}/"):
        raise RunForbiddenError(f"project {project!r} is not {asking.project!r}, the only one of this token")


class Protected:
    """An ASGI app behind `check`, for what FastAPI does not ask its dependencies for."""

    def __init__(self, app: ASGIApp, needs: Scope | None) -> None:
        self._app = app
        self.needs = needs

    async def __call__(self, scope: RequestScope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "http":
            check(scope, self.needs)
        await self._app(scope, receive, send)


def protected(route: BaseRoute, needs: Scope | None) -> BaseRoute:
    """The same Route or Mount, which now needs that scope."""
    if not isinstance(route, Route | Mount):
        raise TypeError(f"{route!r} has no app to put behind the check")
    route.app = Protected(route.app, needs)
    return route


def check_complete(app: Starlette, included: Iterable[APIRouter]) -> None:
    """Raise TypeError if a route would be answered without a check, or to nobody: such an app must not start."""
    own = [route for route in app.routes if isinstance(route, APIRoute | Route | Mount)]
    for route in (*own, *(route for router in included for route in router.routes)):
        if isinstance(route, APIRoute):
            is_said = NEEDS in (route.openapi_extra or {})
        else:
            is_said = isinstance(route, Route | Mount) and isinstance(route.app, Protected)
        if not is_said:
            raise TypeError(f"{route!r} does not say what it needs; see api/authorise.py")
