"""Which incidents are open, and what follows when findings come and go: what to keep, and what to tell whom."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallyboard.wire import Alert, Level, limits
from tallyboard_server.model import Incident
from tallyboard_server.watch.findings import Finding, Key, duration, over

OPEN_MAX: Final = 10_000
OPEN_PER_RUN_MAX: Final = 300
"""Incidents that are open at once; more are not noted until others are over."""
DAMP_S: Final = 600.0
"""What begins again so soon after it ended is counted, and told only if it lasts that long."""
CLOSED_MAX: Final = 10_000
"""Incidents of which is remembered when they ended."""
LINES_MAX: Final = 10
_LEVELS: Final[Sequence[Level]] = ("info", "warn", "error")


@dataclass(slots=True, frozen=True)
class Change:
    """What changes for one run: incidents to keep, incidents that are over, and alerts to raise."""

    run_id: int
    run: str
    saved: tuple[Incident, ...] = ()
    dropped: tuple[Incident, ...] = ()
    alerts: tuple[Alert, ...] = ()


class Ledger:
    """Open incidents by run. `compare` only says what follows; `apply` makes it so, once it is durable."""

    def __init__(self, incidents: Iterable[Incident] = ()) -> None:
        self._open: dict[int, dict[Key, Incident]] = {}
        self._closed: OrderedDict[tuple[int, str, str], tuple[float, int]] = OrderedDict()
        self._count = 0
        self.load(incidents)

    def load(self, incidents: Iterable[Incident]) -> None:
        """These are open, and no others."""
        self._open, self._count = {}, 0
        for incident in incidents:
            self._keep(incident)

    def of_run(self, run_id: int) -> Mapping[Key, Incident]:
        """A run's open incidents."""
        return self._open.get(run_id, {})

    def counts(self) -> dict[str, int]:
        """How many are open, by kind."""
        return Counter(kind for incidents in list(self._open.values()) for kind, _ in list(incidents))

    def owes(self, run_id: int) -> bool:
        """Whether an open incident of a run is told only if it lasts."""
        return any(not incident.told and incident.level != "info" for incident in self.of_run(run_id).values())

    def compare(
        self,
        run_id: int,
        run: str,
        found: Sequence[Finding],
        *,
        unsaid: Callable[[Incident], bool],
        at: Mapping[str, int],
        now: float,
        coming: int = 0,
    ) -> Change | None:
        """What follows from all that is wrong with a run now; None: nothing. at: where its counters stand. coming:
        incidents that open with other changes, not applied yet.

        unsaid: whether it is to be told to nobody that an incident is over: it has not got well.
        """
        known = self.of_run(run_id)
        present = {finding.key for finding in found}
        saved: list[Incident] = []
        told: list[Finding] = []
        for finding in found:
            incident = self._next(run_id, finding, known, (len(saved), coming), now)
            if incident is not None:
                saved.append(incident)
                if incident.told:
                    told.append(finding)
        dropped = tuple(incident for key, incident in known.items() if key not in present)
        if not saved and not dropped:
            return None
        over = [incident for incident in dropped if incident.told and not unsaid(incident)]
        alerts = (*_raised(told, at, now), *_recovered(over, at, now))
        return Change(run_id, run, tuple(saved), dropped, alerts)

    def apply(self, change: Change, now: float) -> None:
        """A change is durable."""
        for incident in change.saved:
            self._keep(incident)
        for incident in change.dropped:
            incidents = self._open.get(change.run_id, {})
            if incidents.pop(incident.key, None) is not None:
                self._count -= 1
            if not incidents:
                self._open.pop(change.run_id, None)
            self._closed[change.run_id, *incident.key] = now, incident.times
            self._closed.move_to_end((change.run_id, *incident.key))
        while len(self._closed) > CLOSED_MAX:
            self._closed.popitem(last=False)

    def forget(self, run_id: int) -> None:
        """The run was deleted."""
        self._count -= len(self._open.pop(run_id, {}))

    def _keep(self, incident: Incident) -> None:
        incidents = self._open.setdefault(incident.run_id, {})
        self._count += incident.key not in incidents
        incidents[incident.key] = incident

    def _next(
        self, run_id: int, finding: Finding, known: Mapping[Key, Incident], more: tuple[int, int], now: float
    ) -> Incident | None:
        """The incident that a finding begins, or that is told now; None: nothing new. more: that come, of this run and
        of others."""
        ended_at, times = self._closed.get((run_id, *finding.key), (None, 0))
        lately = ended_at is not None and 0 <= now - ended_at < DAMP_S
        incident = known.get(finding.key)
        if incident is not None:
            if incident.told or incident.level == "info" or lately:
                return None
            return replace(incident, title=finding.title, text=finding.text, told=True)
        if len(known) + more[0] >= OPEN_PER_RUN_MAX or self._count + sum(more) >= OPEN_MAX:
            return None
        told = finding.level != "info" and not lately
        again = times + 1 if lately else 0
        return Incident(run_id, *finding.key, now, finding.level, finding.title, finding.text, told, again)


def _raised(found: Sequence[Finding], at: Mapping[str, int], now: float) -> list[Alert]:
    """An alert for the findings of each kind."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in found:
        by_kind.setdefault(finding.kind, []).append(finding)
    alerts = []
    for same in by_kind.values():
        first = same[0]
        title = first.title if len(same) == 1 else f"{first.title}, and {len(same) - 1} more"
        lines = [first.text, *(f"{finding.title}. {finding.text}" for finding in same[1:LINES_MAX])]
        level = max((finding.level for finding in same), key=_LEVELS.index)
        alerts.append(_alert(title, lines, level, at, now))
    return alerts


def _recovered(incidents: Sequence[Incident], at: Mapping[str, int], now: float) -> list[Alert]:
    """An alert of level info for what is over, of each kind."""
    by_kind: dict[str, list[Incident]] = {}
    for incident in incidents:
        by_kind.setdefault(incident.kind, []).append(incident)
    alerts = []
    for same in by_kind.values():
        first = same[0]
        title = f"recovered: {over(*first.key)}" + (f", and {len(same) - 1} more" if len(same) > 1 else "")
        lines = [f"{one.title}: told {duration(max(0.0, now - one.opened_at))} ago." for one in same[:LINES_MAX]]
        alerts.append(_alert(title, lines, "info", at, now))
    return alerts


def _alert(title: str, lines: Sequence[str], level: Level, at: Mapping[str, int], now: float) -> Alert:
    places: dict[str, int | float] = dict(list(at.items())[: limits.ALERT_COUNTERS_MAX])
    return Alert(
        title=_cut(title, limits.ALERT_TITLE_BYTES_MAX),
        text=_cut("\n".join(lines), limits.ALERT_TEXT_BYTES_MAX),
        level=level,
        wall_time=now,
        at=places,
    )


def _cut(text: str, bytes_max: int) -> str:
    """The text, or as much of its beginning as fits with an ellipsis."""
    whole = text.encode()
    return text if len(whole) <= bytes_max else f"{whole[: bytes_max - 3].decode(errors='ignore')}…"
