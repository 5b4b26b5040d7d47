"""The values of columns, read from a run's state and its points."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tallyboard_server.model import Producer, RunState, frozen
from tallyboard_server.runtable.columns import (
    BEST,
    DOCUMENTS,
    FIGURES,
    INCIDENTS,
    LIVE_COLUMNS,
    OF_ALERTS,
    OF_COUNTERS,
    RATES,
    REFUSED,
    RUN_COLUMNS,
    TOTALS,
    Column,
)
from tallyboard_server.series.reading import Source
from tallyboard_server.series.summary import TagSummary, point_as_of_step, point_as_of_time, rate, summarise


class Heard(Protocol):
    """Whether anything is heard of a run: when last (seconds since the epoch), and what that makes of its status."""

    @property
    def last_seen(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def status(self) -> str:
        """As it is shown."""
        ...


@dataclass(slots=True, frozen=True)
class _Origin:
    """What values of one run are read from, at one moment; tags: those that were asked for and have points."""

    points: Source
    state: RunState
    tags: Mapping[str, TagSummary]


def read_values(points: Source, state: RunState, columns: Iterable[Column]) -> dict[str, Any]:
    """JSON values by the columns' text, None for what is missing; live columns are not for here.

    Numbers may be NaN or infinite. All points are read in one go, tag by tag from the coarsest cells there are.
    """
    wanted = list(columns)
    tags = {column.arguments[-1] for column in wanted if column.kind in FIGURES or column.kind in BEST}
    origin = _Origin(points, state, summarise(points, state, tags))
    return {column.text: _value(origin, column) for column in wanted}


def live_value(column: Column, state: RunState, heard: Heard, now: float) -> Any:
    """The value of a column that changes by itself; `state` may be a pulse; now in seconds since the epoch."""
    match column.kind:
        case "status":
            return heard.status
        case "last_seen":
            return heard.last_seen
        case "age":
            return max(0.0, now - state.meta.created_at)
        case "idle":
            return max(0.0, now - heard.last_seen)
    raise ValueError(f"{column.text} is none of {', '.join(LIVE_COLUMNS)}")


def pulse(state: RunState) -> RunState:
    """As much of a state as it takes to tell how a run is: what can be kept of very many runs."""
    meta = replace(
        state.meta, uid=None, group=None, display_name=None, notes=None, tags=(), config={}, summary={}, provenance={}
    )
    producers: Mapping[str, Producer] = frozen()
    if state.producers:
        newest = max(state.producers.values(), key=lambda producer: producer.last_seen)
        producers = frozen({newest.name: Producer(newest.name, last_seen=newest.last_seen)})
    return RunState(state.id, state.name, meta, state.pos, state.epoch, producers=producers)


def at_path(document: Mapping[str, Any], parts: tuple[str, ...]) -> Any:
    """The value at a key, or at a path of keys into nested objects; None if there is none.

    A key with dots, as flat configs have them, comes before a path.
    """
    if (key := ".".join(parts)) in document:
        return document[key]
    found: Any = document
    for part in parts:
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _value(origin: _Origin, column: Column) -> Any:
    kind, state = column.kind, origin.state
    if kind in RUN_COLUMNS:
        return RUN_COLUMNS[kind](state)
    if kind in DOCUMENTS:
        return at_path(getattr(state.meta, kind), column.arguments)
    if kind == REFUSED:
        return origin.points.refused_count(state.id)
    if kind in OF_ALERTS:
        return OF_ALERTS[kind](origin.points.alert_count(state.id))
    if kind == INCIDENTS:
        return origin.points.incident_kinds(state.id) or None
    if kind in OF_COUNTERS:
        return _of_counter(origin, kind, column.arguments[0])
    if kind in BEST:
        return _at_best(origin, column)
    summary = origin.tags.get(column.arguments[0])
    return None if summary is None else FIGURES[kind](summary)


def _of_counter(origin: _Origin, kind: str, name: str) -> Any:
    if (counter := origin.state.counters.get(name)) is None:
        return None
    if kind == RATES:
        return rate(origin.points, origin.state, counter)
    return counter.total if kind == TOTALS else counter.last_step


def _at_best(origin: _Origin, column: Column) -> Any:
    """A tag's value where another is best: at that step or, if they belong to different counters, by that time."""
    tag, by = column.arguments
    points, state, best = origin.points, origin.state, origin.tags.get(by)
    mark = None if best is None else best.min if column.kind == "at_min" else best.max
    known = state.tags.get(tag)
    if best is None or mark is None or known is None:
        return None
    if known.counter_id == state.counters[best.counter].id:
        point = point_as_of_step(points, state, tag, mark.step)
    else:
        point = point_as_of_time(points, state, tag, mark.wall_time)
    return None if point is None else point.value
