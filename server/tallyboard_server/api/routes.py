"""Every route of the service, and below which path it hangs."""

from collections.abc import Iterator
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

from tallyboard_server.api import (
    audit,
    charts,
    events,
    export,
    live,
    login,
    operations,
    overviews,
    prune,
    reports,
    runs,
    safety,
    tokens,
    watch,
)

API_PREFIX: Final = "/api/v1"

ROUTERS: Final[tuple[tuple[str, APIRouter], ...]] = (
    (API_PREFIX, runs.router),
    (API_PREFIX, reports.router),
    (API_PREFIX, events.router),
    (API_PREFIX, charts.router),
    (API_PREFIX, live.router),
    (API_PREFIX, overviews.router),
    (API_PREFIX, export.router),
    (API_PREFIX, safety.router),
    (API_PREFIX, prune.router),
    (API_PREFIX, tokens.router),
    (API_PREFIX, audit.router),
    (API_PREFIX, watch.router),
    ("", operations.router),
    ("", operations.root),
    ("", login.router),
)
"""All but POST /scalars, which goes past FastAPI's parameter machinery: it is asked all the time."""


def described_routes() -> Iterator[tuple[str, APIRoute]]:
    """(whole path, route) of every route of ROUTERS that the documentation lists."""
    for prefix, router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema and router.include_in_schema:
                yield prefix + route.path_format, route
