"""What the API answers about watchdogs, as msgspec types; the rules themselves are `watch.WatchRules`."""

import msgspec

from tallyboard.wire import Level
from tallyboard_server.watch.rules import WatchRules


class IncidentItem(msgspec.Struct, kw_only=True):
    """Something that a watchdog found wrong with a run, and that is not over yet.

    kind: lost, stalled, unmoved, nonfinite, bounds, refused or failed; subject: the counter, tag or reason that it is
    about, "" if the run is. since: when it was found, by the service's clock (seconds since the epoch). told: whether
    an alert was raised. times: how often it had ended and begun again shortly after.
    """

    run: str
    kind: str
    subject: str
    since: float
    level: Level
    title: str
    text: str
    told: bool
    times: int


class IncidentsPage(msgspec.Struct, kw_only=True):
    """Open incidents, newest first; more: whether there are others, which the limit left out."""

    incidents: list[IncidentItem]
    more: bool


class WatchAnswer(msgspec.Struct, kw_only=True):
    """What watchdogs do for a project, null for all of them.

    own: what it changes itself; rules: what holds in all. The URL of a webhook, which is often a secret, is whole only
    for admins of the whole service.
    """

    project: str | None
    own: WatchRules
    rules: WatchRules


class TestAnswer(msgspec.Struct, kw_only=True):
    """What became of a test notice. taken: the webhook has it. status: of its answer, null if there was none; detail:
    the answer's beginning, or what was wrong."""

    __test__ = False  # it is no test of pytest's

    taken: bool
    status: int | None
    detail: str
