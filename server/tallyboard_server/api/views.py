"""What a run looks like to those who ask: the contract's state as answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tallyboard_server.api.messages import (
    AlertItem,
    AlertsPage,
    AttemptView,
    CounterBrief,
    CounterView,
    Health,
    RefusedItem,
    RefusedPage,
    RunRow,
    RunView,
    ShownStatus,
)
from tallyboard_server.api.watchmessages import IncidentItem
from tallyboard_server.model import (
    AlertCount,
    Attempt,
    Counter,
    Incident,
    KeptAlert,
    KeptRefusal,
    Producer,
    RunState,
)


@dataclass(slots=True, frozen=True)
class Liveness:
    """Whether anything is heard of a run: when last (seconds since the epoch), and what that makes of its status."""

    last_seen: float
    status: ShownStatus


def run_view(
    state: RunState,
    refused: Sequence[KeptRefusal],
    alerts: AlertCount,
    incidents: Sequence[tuple[str, Incident]],
    liveness: Liveness,
    now: float,
) -> RunView:
    """A run, whole. refused, incidents: newest first; now: seconds since the epoch."""
    meta = state.meta
    tags = visible_tags(state)
    return RunView(
        run=state.name,
        status=liveness.status,
        display_name=meta.display_name,
        group=meta.group,
        tags=meta.tags,
        notes=meta.notes,
        archived=meta.archived,
        created_at=meta.created_at,
        updated_at=meta.updated_at,
        config=dict(meta.config),
        summary=dict(meta.summary),
        provenance=dict(meta.provenance),
        counters={
            counter.name: _counter_view(counter, tags.get(counter.id, []), state)
            for counter in state.counters.values()
            if not counter.is_implicit
        },
        tag_counters={
            name: counter.value()
            for counter in state.counters.values()
            if counter.is_implicit
            for name in tags.get(counter.id, ())
        },
        kinds={name: tag.kind for names in tags.values() for name in names if not (tag := state.tags[name]).is_scalar},
        health=Health(
            last_seen=liveness.last_seen,
            silent_s=max(0.0, now - liveness.last_seen) if meta.status == "running" else None,
            refused_kept=len(refused),
            refused_at=refused[0].at if refused else None,
            alerts_kept=alerts.kept,
            alerted_at=alerts.newest_at,
            stalled=state.stalled,
            incidents=[incident_item(run, incident) for run, incident in incidents],
        ),
    )


def run_row(state: RunState, liveness: Liveness) -> RunRow:
    """A run as a list of runs shows it."""
    meta = state.meta
    return RunRow(
        run=state.name,
        status=liveness.status,
        display_name=meta.display_name,
        group=meta.group,
        tags=meta.tags,
        archived=meta.archived,
        created_at=meta.created_at,
        updated_at=meta.updated_at,
        last_seen=liveness.last_seen,
        config=dict(meta.config),
        summary=dict(meta.summary),
        counters={
            c.name: CounterBrief(last_step=c.last_step, attempt=len(c.attempts), total=c.total, stalled=c.stalled)
            for c in state.counters.values()
            if not c.is_implicit
        },
    )


def incident_item(run: str, incident: Incident) -> IncidentItem:
    """An open incident of a run."""
    return IncidentItem(
        run=run,
        kind=incident.kind,
        subject=incident.subject,
        since=incident.opened_at,
        level=incident.level,
        title=incident.title,
        text=incident.text,
        told=incident.told,
        times=incident.times,
    )


def refused_page(run: str, refused: Sequence[KeptRefusal]) -> RefusedPage:
    """What was refused of a run."""
    items = [RefusedItem(at=kept.at, producer=kept.producer, refusal=kept.refusal) for kept in refused]
    return RefusedPage(run=run, refused=items)


def alerts_page(run: str, alerts: Sequence[KeptAlert]) -> AlertsPage:
    """What jobs had to say to people."""
    items = [
        AlertItem(
            title=kept.alert.title,
            text=kept.alert.text,
            level=kept.alert.level,
            wall_time=kept.at if kept.alert.wall_time is None else kept.alert.wall_time,
            at={name: int(step) for name, step in kept.alert.at.items()},
            producer=kept.producer,
            received_at=kept.at,
        )
        for kept in alerts
    ]
    return AlertsPage(run=run, alerts=items)


def visible_tags(state: RunState, *, scalars: bool = False) -> dict[int, list[str]]:
    """The names of the tags with visible points, sorted, by counter id; scalars: only those of numbers."""
    found: dict[int, list[str]] = {}
    for tag, counter in state.visible_tags():
        if tag.is_scalar or not scalars:
            found.setdefault(counter.id, []).append(tag.name)
    for names in found.values():
        names.sort()
    return found


def _counter_view(counter: Counter, tags: list[str], state: RunState) -> CounterView:
    limits = counter.limits()
    return CounterView(
        last_step=counter.last_step,
        attempt=len(counter.attempts),
        total=counter.total,
        attempts=[_attempt_view(a, limits[a.number], state.producers.get(a.writer)) for a in counter.attempts],
        tags=tags,
        stalled=counter.stalled,
    )


def _attempt_view(attempt: Attempt, limit: int | None, producer: Producer | None) -> AttemptView:
    origin: dict[str, Any] = {} if producer is None else dict(producer.origin)
    pid = str(origin.get("pid", ""))
    return AttemptView(
        number=attempt.number,
        writer=attempt.writer,
        start=attempt.start,
        last_step=attempt.last_step,
        last_visible=attempt.last_visible,
        limit=limit,
        reports=attempt.reports,
        scalars=attempt.scalars,
        unmoved=attempt.unmoved,
        host=origin.get("host"),
        pid=int(pid) if pid.isdecimal() else None,
        user=origin.get("user"),
        began_at=_seconds(origin.get("began_at")),
        last_seen=None if producer is None else producer.last_seen,
    )


def _seconds(text: str | None) -> float | None:
    """What a producer told of a time; None if it is no number."""
    try:
        seconds = float(text or "nan")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None
