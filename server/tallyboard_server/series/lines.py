"""Reading tags of one run: from cells of the coarsest level that will do, to points or buckets along x."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallyboard.wire import implicit_counter, is_implicit
from tallyboard_server.model import Counter, RunState, Tag
from tallyboard_server.series.asof import read_reached
from tallyboard_server.series.axis import STEP_MAX, Axis, whole
from tallyboard_server.series.history import History, superseded_attempts, superseded_histories, visible_history
from tallyboard_server.series.question import (
    BUILT_IN_AXES,
    Allowance,
    Line,
    Places,
    Question,
    UnknownAxisError,
    XSource,
)
from tallyboard_server.series.reading import Source
from tallyboard_server.series.walk import Walk, buckets_along_steps
from tallyboard_server.store import envelope
from tallyboard_server.store.envelope import Cells

ANY_ROWS: Final = 2**62
"""rows_max of those to whom the coarsest cells are fine."""
_CELLS_AT_ONCE: Final = 200_000
_TAGS_AT_ONCE: Final = 256
"""What one call of the store is asked for, at most: this bounds its memory and time."""


@dataclass(slots=True, frozen=True)
class Levels:
    """The levels of cells that there are, and when a finer one is worth its reading.

    rows: points that cells of each level stand for, coarsest first; below come the points. A level has plenty of
    cells with `plenty` for each bucket, and enough with one for `enough` buckets, which will do if the next finer
    level would take more than cells_max cells.
    """

    rows: tuple[int, ...] = (8_192, 128)
    plenty: int = 4
    enough: int = 3
    cells_max: int = 16_384

    def of(self, points: int, buckets: int | None) -> int:
        """rows_max to read so many points with, for so many buckets; None: every point."""
        if buckets is None or points <= buckets:
            return 1
        for rows, finer in zip(self.rows, (*self.rows[1:], 1), strict=True):
            cells = points // rows
            if cells >= self.plenty * buckets or (cells * self.enough >= buckets and points // finer > self.cells_max):
                return rows
        return 1


Wanted = Callable[[Tag, History], int | None]
"""After which step of a tag's history something is wanted: -1 all of it, None nothing."""


def everything(_tag: Tag, _history: History) -> int:
    """Wants all there is."""
    return -1


def read_lines(
    source: Source,
    state: RunState,
    tags: Sequence[str],
    asked: Question,
    allowance: Allowance,
    wanted: Wanted = everything,
    levels: Levels | None = None,
) -> list[Line]:
    """What is asked for of tags of a run, in the order of the tags; none of tags without such points.

    For each tag what is visible (empty if the range or `wanted` leaves no point), then what was superseded of it, if
    asked for. Raises UnknownAxisError if x is no axis of the run, PointsTooManyError if the allowance is used up. Each
    attempt that was superseded counts as a series of every tag that may have points in it.
    """
    if asked.x not in BUILT_IN_AXES and (asked.x not in state.counters or is_implicit(asked.x)):
        axes = ", ".join((*BUILT_IN_AXES, *(name for name in state.counters if not is_implicit(name))))
        raise UnknownAxisError(f"x={asked.x!r}: the axes of {state.name} are {axes}")
    reader = _RunLines(source, state, asked, allowance, levels or Levels())
    found: dict[str, list[Line]] = {tag: [] for tag in tags}
    for (history, after), group in _alike(state, tags, asked, allowance, wanted):
        for line in reader.read(history, group, after):
            found[line.tag].append(line)
    return [line for tag in tags for line in found[tag]]


def visible_lines_of(state: RunState, names: Iterable[str]) -> Iterator[tuple[Tag, Counter]]:
    """Tags and their counters, without those that have no visible point, or whose points are no numbers."""
    counters = {counter.id: counter for counter in state.counters.values()}
    for name in names:
        tag = state.tags.get(name)
        if tag is None or not tag.is_scalar:
            continue
        counter = counters.get(tag.counter_id)
        if counter is not None and tag.is_bound(counter):
            yield tag, counter


def visible_line_of(state: RunState, name: str) -> tuple[Tag, Counter] | None:
    """A tag and its counter; None if the tag has no visible point, or its points are no numbers."""
    return next(visible_lines_of(state, (name,)), None)


def _alike(
    state: RunState, tags: Sequence[str], asked: Question, allowance: Allowance, wanted: Wanted
) -> Iterator[tuple[tuple[History, int], list[Tag]]]:
    """Tags that are read together: of one history, after one step. All are counted before the first is read."""
    visible = list(visible_lines_of(state, tags))
    allowance.take_series(len(visible))
    hidden = list(_hidden(state, tags)) if asked.superseded else []
    for counter, some in hidden:
        allowance.take_series(len(superseded_attempts(counter)) * len(some))
    histories: dict[int, History] = {}
    groups: dict[tuple[int, int], list[Tag]] = {}
    for tag, counter in visible:
        if counter.id not in histories:
            histories[counter.id] = visible_history(counter)
        after = wanted(tag, histories[counter.id])
        if after is not None:
            groups.setdefault((counter.id, after), []).append(tag)
    for (counter_id, after), group in groups.items():
        yield (histories[counter_id], after), group
    for counter, some in hidden:
        for history in superseded_histories(counter):
            alike: dict[int, list[Tag]] = {}
            for tag in some:
                if (after := wanted(tag, history)) is not None:
                    alike.setdefault(after, []).append(tag)
            for after, group in alike.items():
                yield (history, after), group


def _hidden(state: RunState, tags: Iterable[str]) -> Iterator[tuple[Counter, list[Tag]]]:
    """Counters, and the tags that may have superseded points on them.

    A counter of a single tag has only that one's. On the others may be any: a tag whose points were all superseded may
    have gone on with another counter, its own among them.
    """
    known = [state.tags[name] for name in tags if name in state.tags and state.tags[name].is_scalar]
    own = {implicit_counter(tag.name): tag for tag in known}
    for counter in state.counters.values():
        if not counter.is_implicit:
            yield counter, known
        elif counter.name in own:
            yield counter, [own[counter.name]]


@dataclass(slots=True)
class _Range:
    """Where a tag is to be read: steps from low to high, and what the way there has shown of it."""

    low: int
    high: int
    walk: Walk | None = None


class _RunLines:
    """Reads lines of one run."""

    def __init__(self, source: Source, state: RunState, asked: Question, allowance: Allowance, levels: Levels) -> None:
        self._source = source
        self._state = state
        self._asked = asked
        self._allowance = allowance
        self._levels = levels
        self._axis: Axis | None = None

    def read(self, history: History, tags: Sequence[Tag], after: int) -> Iterator[Line]:
        """Lines of tags in one history; visible ones also if they are empty."""
        low = max(history.begin, after + 1)
        axis = None if self._asked.x in ("step", history.counter.name) else self._other_axis()
        for start in range(0, len(tags), _TAGS_AT_ONCE):
            some = {tag.id: tag for tag in tags[start : start + _TAGS_AT_ONCE]}
            if axis is None:
                first = low if self._asked.first is None else max(low, whole(self._asked.first, up=True))
                last = STEP_MAX if self._asked.last is None else whole(self._asked.last, up=False)
                ranges = {tag_id: _Range(first, last) for tag_id in some}
            else:
                ranges = self._ranges(axis, history, list(some), low)
            for tag_id, cells in self._read_ranges(history, ranges, None if axis is None else axis.at):
                if len(cells) or history.superseded is None:
                    yield self._line(some[tag_id], history, cells, ranges[tag_id].walk)

    def _other_axis(self) -> Axis:
        if self._axis is None:
            other = self._state.counters.get(self._asked.x) if self._asked.x not in BUILT_IN_AXES else None
            self._axis = Axis(
                other,
                relative=self._asked.x == "relative",
                read=None if other is None else lambda: read_reached(self._source, self._state.id, other),
            )
        return self._axis

    def cells(
        self, history: History, tag_ids: Sequence[int], low: int, high: int, rows_max: int, at: int | None
    ) -> dict[int, Cells]:
        """Cells of a history between two steps; tags without any may be absent."""
        parts: dict[int, list[Cells]] = {}
        for part in history.between(low, high):
            found = self._source.cells(
                self._state.id, history.counter.id, part.attempt, tag_ids,
                first_step=part.first, last_step=part.last, rows_max=rows_max, at=at,
            )  # fmt: skip
            for tag_id, cells in found.items():
                if len(cells):
                    parts.setdefault(tag_id, []).append(cells)
        return {tag_id: envelope.joined(cells) for tag_id, cells in parts.items()}

    def _ranges(self, axis: Axis, history: History, tag_ids: list[int], low: int) -> dict[int, _Range]:
        """The steps to be read for the x asked for; what lies before them is walked over by coarse cells."""
        asked = self._asked

        def finer(tag_id: int) -> Callable[[int, int, int], Cells]:
            def read(first: int, last: int, rows_max: int) -> Cells:
                found = self.cells(history, [tag_id], first, last, rows_max, axis.at)
                return found.get(tag_id) or envelope.joined([])

            return read

        ranges = {tag_id: _Range(low, STEP_MAX, Walk(axis, finer(tag_id))) for tag_id in tag_ids}
        if low > 0:
            before = self.cells(history, tag_ids, 0, low - 1, ANY_ROWS, axis.at)
            for tag_id, cells in before.items():
                self._walk(ranges[tag_id]).pass_over(cells)
        if asked.first is not None or asked.last is not None:
            coarse = self.cells(history, tag_ids, low, STEP_MAX, ANY_ROWS, axis.at)
            for tag_id, found in ranges.items():
                cells = coarse.get(tag_id) or envelope.joined([])
                found.low, found.high = self._walk(found).cut(cells, asked.first, asked.last)
        return ranges

    @staticmethod
    def _walk(found: _Range) -> Walk:
        if found.walk is None:
            raise LookupError("along steps nothing is walked")
        return found.walk

    def _read_ranges(
        self, history: History, ranges: Mapping[int, _Range], at: int | None
    ) -> Iterator[tuple[int, Cells]]:
        """Cells of each tag in its own range, tags of the same range together."""
        same: dict[tuple[int, int], list[int]] = {}
        for tag_id, found in ranges.items():
            same.setdefault((found.low, found.high), []).append(tag_id)
        for (low, high), tag_ids in same.items():
            yield from self._levelled(history, tag_ids, low, high, at)

    def _levelled(
        self, history: History, tag_ids: list[int], low: int, high: int, at: int | None
    ) -> Iterator[tuple[int, Cells]]:
        """Cells at the coarsest level that has enough of them for the buckets asked for."""
        buckets = self._asked.buckets
        at_most = dict.fromkeys(tag_ids, 0)
        for part in history.between(low, high):
            found = self._source.points_at_most(
                self._state.id, history.counter.id, part.attempt, tag_ids, first_step=part.first, last_step=part.last
            )
            for tag_id, points in found.items():
                at_most[tag_id] += points
        if buckets is None and sum(at_most.values()) > self._allowance.left:
            coarse = self.cells(history, tag_ids, low, high, ANY_ROWS, None)  # at most may be more than there are
            at_most.update({tag_id: int(cells.count.sum()) for tag_id, cells in coarse.items()})
            if sum(at_most.values()) > self._allowance.left:
                self._allowance.take(sum(at_most.values()))
        pending = {tag_id: self._levels.of(points, buckets) for tag_id, points in at_most.items()}
        while pending:
            again: dict[int, int] = {}
            for rows_max, some in _together(pending, at_most):
                found_cells = self.cells(history, some, low, high, rows_max, at)
                for tag_id in some:
                    cells = found_cells.get(tag_id) or envelope.joined([])
                    at_most[tag_id] = int(cells.count.sum())
                    if (better := self._levels.of(at_most[tag_id], buckets)) < rows_max:
                        again[tag_id] = better
                    else:
                        yield tag_id, cells
            pending = again

    def _line(self, tag: Tag, history: History, cells: Cells, walk: Walk | None) -> Line:
        buckets = self._asked.buckets
        merged = buckets is not None and int(cells.count.sum()) > buckets
        source: XSource = "own"
        if walk is None:
            if merged and buckets is not None:
                cells = buckets_along_steps(cells, buckets)
            places = Places(cells.first.steps, cells.min.steps, cells.max.steps, cells.last.steps)
        else:
            cells, places = walk.along(cells, buckets if merged else None)
            if walk.axis.other is not None:
                source = "as_of_time" if walk.by_time else "recorded"
        self._allowance.take(len(cells))
        superseded = None if history.superseded is None else history.superseded.number
        return Line(tag.name, history.counter.name, cells, places, merged, source, superseded)


def _together(pending: Mapping[int, int], at_most: Mapping[int, int]) -> Iterator[tuple[int, list[int]]]:
    """Tags of one level, so many at a time that their cells fit into memory."""
    levels: dict[int, list[int]] = {}
    for tag_id, rows_max in pending.items():
        levels.setdefault(rows_max, []).append(tag_id)
    for rows_max, tag_ids in levels.items():
        some: list[int] = []
        cells = 0
        for tag_id in tag_ids:
            expected = 2 * at_most[tag_id] // rows_max
            if some and cells + expected > _CELLS_AT_ONCE:
                yield rows_max, some
                some, cells = [], 0
            some.append(tag_id)
            cells += expected
        if some:
            yield rows_max, some
