"""Answering questions about charts: which runs and tags are meant, what is new of them, and what they show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tallyboard_server.api import cursors
from tallyboard_server.api.chartmessages import Chart, Field, Missing
from tallyboard_server.api.drawn import Drawing
from tallyboard_server.api.etags import is_known
from tallyboard_server.api.globs import NamesTooManyError, chosen, is_pattern, matching_runs
from tallyboard_server.api.grouping import Grouping
from tallyboard_server.api.problems import InvalidQueryError
from tallyboard_server.api.service import Service
from tallyboard_server.api.views import visible_tags
from tallyboard_server.model import RunState
from tallyboard_server.principal import Principal
from tallyboard_server.series import (
    Allowance,
    HistoryChangedError,
    Levels,
    Line,
    PointsTooManyError,
    Question,
    RunReader,
    SeriesTooManyError,
    UnknownAxisError,
    read_lines,
)
from tallyboard_server.series.reading import HOLD_S
from tallyboard_server.series.since import News, Seen
from tallyboard_server.store.protocol import SNAPSHOT_S_MAX

SERIES_MAX: Final = 10_000
"""Most series in one answer, and most runs, or tags, in one question."""
BUCKETS_MAX: Final = 10_000
GROUPED_MAX: Final = 4_000_000
"""Points and buckets that groups are made of, which are read but not sent: 24 bytes each."""
CELLS_MAX: Final = Levels().cells_max
"""Cells beyond which an answer, all of its runs together, makes do with coarser ones, where they are enough."""
_TRIES: Final = 3
"""Times that a run is read in short snapshots, before one is held for as long as may be."""


@dataclass(slots=True, frozen=True)
class Asked:
    """A question to many runs: names or patterns of runs and tags (no tag: all), and what of them.

    group: path in config by whose values runs are put together. since: cursor of an answer to the same question.
    fields: what of each bucket is wanted; (): everything.
    """

    runs: Sequence[str]
    tags: Sequence[str]
    question: Question
    group: str | None = None
    since: str | None = None
    binary: bool = False
    fields: tuple[Field, ...] = ()

    @property
    def identity(self) -> bytes:
        """What a cursor belongs to: the question, but for since and the answer's form."""
        return cursors.digest(self.runs, self.tags, self.question, self.group)


@dataclass(slots=True, frozen=True)
class Answered:
    """chart None: the reader has it already, by its ETag."""

    chart: Chart | None
    etag: str


@dataclass(slots=True)
class _Found:
    series: list[msgspec.Raw] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    now: dict[str, Seen] = field(default_factory=dict)
    prints: list[object] = field(default_factory=list)
    unknown: UnknownAxisError | None = None
    known_axis: bool = False


@dataclass(slots=True, frozen=True)
class _RunFound:
    """What was read of one run: its series, or its lines if they are to be grouped."""

    state: RunState
    lines: list[Line]
    missing: list[str]
    news: News


def answer_query(service: Service, asked: Asked, known_etags: Sequence[str], asking: Principal) -> Answered:
    """Answer a question, unless the reader has the answer already. Runs out of reach are missing, as if not there.

    Raises InvalidQueryError, PointsTooManyError, UnknownAxisError, and HistoryChangedError if a run never stood still.
    """
    seen = {} if asked.since is None else cursors.opened(asked.since, asked.identity)
    runs, missing = _runs(service, asked, asking)
    if known_etags:
        etag = _etag(asked, runs, [_print(asked, _state(service, run)) for run in runs])
        if is_known(etag, known_etags):
            return Answered(None, etag)
    return _Answer(service, asked, seen).of(runs, missing)


class _Answer:
    """One answer in the making."""

    def __init__(self, service: Service, asked: Asked, seen: Mapping[str, Seen]) -> None:
        self._service = service
        self._asked = asked
        self._seen = seen
        most = service.settings.points_per_answer_max if asked.group is None else GROUPED_MAX
        self._allowance = Allowance(most, SERIES_MAX)
        self._levels = Levels()
        self._drawing = Drawing(binary=asked.binary, with_x=asked.question.x != "step", fields=asked.fields)
        self._found = _Found()
        self._grouping = None if asked.group is None else Grouping(asked.group, asked.question.buckets or BUCKETS_MAX)

    def of(self, runs: Sequence[str], missing: Sequence[str]) -> Answered:
        """The whole of it."""
        found, asked = self._found, self._asked
        found.missing.extend(Missing(run=pattern) for pattern in missing)
        asked_runs = set(runs)
        self._levels = Levels(cells_max=CELLS_MAX // max(1, len(runs)))
        found.missing.extend(Missing(run=name) for name in self._seen if name not in asked_runs)
        for run in runs:
            self._add(run)
        if found.unknown is not None and not found.known_axis:
            raise found.unknown
        chart = Chart(x=asked.question.x, series=found.series, missing=found.missing)
        if self._grouping is None:
            chart.cursor = cursors.sealed(asked.identity, found.now)
        else:
            chart.groups = self._grouping.groups(self._drawing, self._service.settings.points_per_answer_max)
            chart.interpolation = self._grouping.interpolation
        return Answered(chart, _etag(asked, runs, found.prints))

    def _add(self, run: str) -> None:
        found, seen = self._found, self._seen.get(run)
        try:
            read = self._read(run)
        except UnknownAxisError as error:
            found.unknown = error
            found.missing.append(Missing(run=run, x=self._asked.question.x))
            found.prints.append(_print(self._asked, _state(self._service, run)))
            return
        found.prints.append(_print(self._asked, None if read is None else read.state))
        if read is None:
            found.missing.append(Missing(run=run))
            return
        found.known_axis = True
        found.missing.extend(Missing(run=run, tag=tag) for tag in read.missing)
        if self._grouping is not None:
            self._grouping.add(read.state, read.lines)
            return
        now = found.now[run] = read.news.now_seen(read.lines)
        if seen is not None:
            self._say_gone(read, seen, now)
        for line in read.lines:
            append = None if self._asked.since is None else read.news.is_append(line)
            if len(line.cells) or not append:
                found.series.append(self._drawing.series(read.state, line, append=append))

    def _say_gone(self, read: _RunFound, seen: Seen, now: Seen) -> None:
        """What the reader has and is there no more; all of it, if this is another run of the same name."""
        if seen.run_id != now.run_id:
            self._found.missing.append(Missing(run=read.state.name))
            return
        names = {tag.id: tag.name for tag in read.state.tags.values()}
        for tag_id, _, attempt in read.news.gone(seen, now):
            if (tag := names.get(tag_id)) is not None and (attempt or tag not in read.missing):
                self._found.missing.append(Missing(run=read.state.name, tag=tag, attempt=attempt or None))

    def _read(self, run: str) -> _RunFound | None:
        left, series = self._allowance.left, self._allowance.series
        for attempt in range(_TRIES + 1):
            self._allowance.left, self._allowance.series = left, series
            hold_s = HOLD_S if attempt < _TRIES else SNAPSHOT_S_MAX
            try:
                with RunReader(self._service.store.snapshot, hold_s=hold_s) as reader:
                    state = reader.load(run)
                    return None if state is None else self._read_in(reader, state)
            except HistoryChangedError:
                continue
            except SeriesTooManyError as error:
                raise SeriesTooManyError(f"{error} in all; name the runs and tags that are wanted") from error
            except PointsTooManyError as error:
                raise PointsTooManyError(f"{error} in all; {self._way_out()}") from error
        raise HistoryChangedError(f"run {run!r} is being pruned or rewound; ask again")

    def _read_in(self, reader: RunReader, state: RunState) -> _RunFound:
        tags, missing = _tags(state, self._asked)
        news = News(state, self._seen.get(state.name))
        lines = read_lines(reader, state, tags, self._asked.question, self._allowance, news.wanted, self._levels)
        return _RunFound(state, lines, missing, news)

    def _way_out(self) -> str:
        if self._asked.question.buckets is None:
            return "ask for buckets=1000, narrow the range with from= and to=, or ask for fewer runs and tags at once"
        return "ask for fewer buckets, or for fewer runs and tags at once"


def _runs(service: Service, asked: Asked, asking: Principal) -> tuple[list[str], list[str]]:
    """The runs that are meant, each once; the patterns that stand for none, and the names that are out of reach."""
    found: dict[str, None] = {}
    missing = []
    for wanted in asked.runs:
        if not is_pattern(wanted):
            if asking.reaches(wanted):
                found[wanted] = None
            else:
                missing.append(wanted)
            continue
        try:
            names = matching_runs(service.store, wanted, SERIES_MAX, asking)
        except NamesTooManyError as error:
            raise InvalidQueryError(f"{error}; say more of their names", field="run") from error
        found.update(dict.fromkeys(names))
        if not names:
            missing.append(wanted)
    if len(found) * max(1, sum(not is_pattern(tag) for tag in asked.tags)) > SERIES_MAX:
        raise InvalidQueryError(
            f"{len(found)} runs × {len(asked.tags)} tags; at most {SERIES_MAX} series in one answer", field="run"
        )
    return list(found), missing


def _tags(state: RunState, asked: Asked) -> tuple[list[str], list[str]]:
    """The tags that are meant of a run, and what of those named has no visible point (or none at all, if
    superseded ones are asked for, too)."""
    there = [name for names in visible_tags(state, scalars=True).values() for name in names]
    if asked.question.superseded:
        there = [name for name, tag in state.tags.items() if tag.is_scalar]
    return chosen(asked.tags, there) if asked.tags else (sorted(there), [])


def _state(service: Service, run: str) -> RunState | None:
    with service.store.snapshot() as view:
        return view.load(run)


def _print(asked: Asked, state: RunState | None) -> object:
    """All of a run that an answer hangs on, in little."""
    if state is None:
        return None
    return state.id, state.pos, state.epoch, len(state.counters), tuple(_extras(asked, state))


def _extras(asked: Asked, state: RunState) -> Iterator[Any]:
    if asked.question.superseded:
        for counter in state.counters.values():
            yield [(a.number, a.writer, a.start, a.scalars, a.pruned_scalars) for a in counter.attempts]
    if asked.group is not None:
        yield state.meta.config


def _etag(asked: Asked, runs: Sequence[str], prints: Sequence[object]) -> str:
    return f'W/"{cursors.digest(asked.identity, asked.since, asked.binary, asked.fields, runs, prints).hex()}"'
