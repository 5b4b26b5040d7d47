"""What the routes work with: the store, the writer and the views of one running service."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Protocol

from anyio import CapacityLimiter
from fastapi import Depends
from starlette.requests import Request

from tallyboard_server.access import Access
from tallyboard_server.api.body import BodyReader
from tallyboard_server.api.fairness import FairShare
from tallyboard_server.api.listeners import Live
from tallyboard_server.api.static import BuiltFiles
from tallyboard_server.api.traffic import Traffic
from tallyboard_server.api.views import Liveness
from tallyboard_server.eventfiles import Shelf
from tallyboard_server.ingest import Ingest
from tallyboard_server.model import RunState
from tallyboard_server.notify import Notifier
from tallyboard_server.principal import Principal
from tallyboard_server.retention import Pruner
from tallyboard_server.runtable import Overview, ValueCache
from tallyboard_server.settings import Settings
from tallyboard_server.shares import Shares
from tallyboard_server.store.protocol import Store
from tallyboard_server.watch import RuleBook


class View(Protocol):
    """A background part that follows the journal, as far as /metrics and /readyz ask."""

    def stats(self) -> Mapping[str, float]:
        """Figures for /metrics."""
        ...


class EventFiles(Protocol):
    """What keeps event files in step with the store."""

    def rebuild(self, run_id: int) -> None:
        """Write a run's event file anew."""
        ...

    def warnings(self) -> list[str]:
        """What is amiss with single runs' files, in sentences."""
        ...


@dataclass(slots=True, frozen=True)
class Service:
    """One running service. `clock` gives seconds since the epoch; `chart_reads` bounds answers in the making,
    `large_decodes` large bodies being decoded, `verifications` runs being verified, `exports` answers of
    GET /export being sent; `copying` is held while a backup is made; `live` tells pages what changes,
    `overview` knows what runs have together, `fairness` gives them their turns. access: who gets in; page: the
    dashboard's files. shelf: event files, for reading. shares: the runs whose event files and the like are this
    service's business; rebuild_elsewhere: has whoever else writes a run's event file write it anew.

    views: the background parts by name. check_views: what is wrong with them, in sentences (nothing: all is well).
    known_values: of runs, as tables of them were last answered. rules: what watchdogs look for; notifier: sends alerts.
    """

    settings: Settings
    store: Store
    ingest: Ingest
    bodies: BodyReader
    fairness: FairShare
    chart_reads: CapacityLimiter
    large_decodes: CapacityLimiter
    verifications: CapacityLimiter
    exports: CapacityLimiter
    copying: asyncio.Lock
    clock: Callable[[], float]
    traffic: Traffic
    access: Access
    page: BuiltFiles
    live: Live
    overview: Overview
    views: Mapping[str, View]
    event_files: EventFiles
    shelf: Shelf
    shares: Shares
    rebuild_elsewhere: Callable[[int, str], None]
    pruner: Pruner
    rules: RuleBook
    notifier: Notifier
    check_views: Callable[[], list[str]]
    known_values: ValueCache = field(default_factory=ValueCache)

    def liveness(self, state: RunState) -> Liveness:
        """Whether anything is heard of a run."""
        heartbeats = self.ingest.heartbeats
        lost = heartbeats.is_lost(state, self.clock(), self.settings.lost_after_s)
        return Liveness(heartbeats.last_seen(state), "lost" if lost else state.meta.status)


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Any = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError("the app was asked before its start-up had finished")
    return service


Running = Annotated[Service, Depends(service_of)]
"""A route's parameter for the service."""


PRINCIPAL: Final = "tallyboard.principal"
"""Where a request's scope holds who asks; the guard puts it there."""


def principal_of(request: Request) -> Principal:
    """Who asks."""
    found: Any = request.scope[PRINCIPAL]
    if not isinstance(found, Principal):
        raise TypeError("the request did not come through the guard")
    return found


Asking = Annotated[Principal, Depends(principal_of)]
"""A route's parameter for who asks."""
