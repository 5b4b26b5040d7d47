"""A tag in a few figures: first, least, greatest and last visible point, count and mean, read from coarse cells."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard_server.model import Counter, RunState, Tag
from tallyboard_server.series.history import Part, visible_history
from tallyboard_server.series.lines import visible_line_of, visible_lines_of
from tallyboard_server.series.reading import Source
from tallyboard_server.store import envelope
from tallyboard_server.store.envelope import NOWHERE, Cells, Marks

ANY_ROWS: Final = 2**62
"""rows_max of those to whom the coarsest cells are fine."""
RATE_S: Final = 60.0
"""What a rate goes back, at least."""
_RATE_ROWS: Final = 128
"""Points that it may go back further."""


@dataclass(slots=True, frozen=True)
class Mark:
    """One point of a tag; wall_time in seconds since the epoch."""

    step: int
    wall_time: float
    value: float


@dataclass(slots=True, frozen=True)
class TagSummary:
    """A tag's visible points. min, max and mean are of the finite ones (min and max the first of equals); None
    without any. nonfinite: how many of `count` are NaN or ±Inf."""

    counter: str
    first: Mark
    last: Mark
    min: Mark | None
    max: Mark | None
    mean: float | None
    count: int
    nonfinite: int


def summarise(source: Source, state: RunState, tags: Iterable[str]) -> dict[str, TagSummary]:
    """The figures of tags by name; tags without a visible point are left out."""
    by_counter: dict[str, list[Tag]] = {}
    for tag, counter in visible_lines_of(state, dict.fromkeys(tags)):
        by_counter.setdefault(counter.name, []).append(tag)
    summaries: dict[str, TagSummary] = {}
    for counter_name, wanted in by_counter.items():
        counter = state.counters[counter_name]
        parts: dict[int, list[Cells]] = {tag.id: [] for tag in wanted}
        for part in visible_history(counter).parts:
            for tag_id, cells in _read(source, state, counter, part, list(parts)).items():
                parts[tag_id].append(cells)
        for tag in wanted:
            if parts[tag.id]:
                summaries[tag.name] = _summary(counter.name, envelope.joined(parts[tag.id]))
    return summaries


def point_as_of_step(source: Source, state: RunState, tag: str, step: int) -> Mark | None:
    """The last visible point of a tag at or before a step of its own counter."""
    if (found := visible_line_of(state, tag)) is None:
        return None
    known, counter = found
    for part in reversed(list(visible_history(counter).between(0, step))):
        if (cells := _read(source, state, counter, part, [known.id]).get(known.id)) is not None and len(cells):
            return _mark(cells.last, len(cells) - 1)
    return None


def point_as_of_time(source: Source, state: RunState, tag: str, wall_time: float) -> Mark | None:
    """The last visible point of a tag by a time (seconds since the epoch).

    Times count as they do along a time axis: none is before those of the points that precede it.
    """
    if (found := visible_line_of(state, tag)) is None:
        return None
    known, counter = found
    reached: Mark | None = None
    for cells in _refined(source, state, counter, known, wall_time):
        later = np.flatnonzero(cells.wall_max > wall_time)
        within = int(later[0]) if len(later) else len(cells)
        if within:
            reached = _mark(cells.last, within - 1)
        if within < len(cells):
            break
    return reached


def rate(source: Source, state: RunState, counter: Counter) -> float | None:
    """A counter's steps per second (by its reports' wall times) over the last RATE_S of what is visible.

    Of the newest attempt that is visible, by the points of one tag; None if these are less than two, or no time passed.
    """
    parts = visible_history(counter).parts
    if not parts or (tag_id := _newest_tag(state, counter)) is None:
        return None
    cells = _read(source, state, counter, parts[-1], [tag_id]).get(tag_id)
    if cells is None or not len(cells):
        return None
    end = _mark(cells.last, len(cells) - 1)
    begin, last = _last_before(cells, end.wall_time - RATE_S)
    if begin.wall_time < end.wall_time - RATE_S:
        within = Part(parts[-1].attempt, begin.step, last)
        finer = _read(source, state, counter, within, [tag_id], rows_max=_RATE_ROWS).get(tag_id)
        if finer is not None and len(finer):
            begin, _ = _last_before(finer, end.wall_time - RATE_S)
    passed = end.wall_time - begin.wall_time
    return (end.step - begin.step) / passed if passed > 0 and end.step > begin.step else None


def _newest_tag(state: RunState, counter: Counter) -> int | None:
    """A scalar that the counter's newest attempt reported last, or else any scalar that is visible on it."""
    visible = [tag.id for tag, of in state.visible_tags() if of.id == counter.id and tag.is_scalar]
    tail = set() if counter.current is None else set(counter.current.tail_tags.tolist())
    return next((tag_id for tag_id in visible if tag_id in tail), visible[0] if visible else None)


def _last_before(cells: Cells, wall_time: float) -> tuple[Mark, int]:
    """Where the last cell begins that begins by a time, and its last step; of the first cell if none does."""
    by_then = np.flatnonzero(cells.first.wall_times <= wall_time)
    index = int(by_then[-1]) if len(by_then) else 0
    return _mark(cells.first, index), int(cells.last.steps[index])


def _refined(source: Source, state: RunState, counter: Counter, tag: Tag, wall_time: float) -> Iterator[Cells]:
    """A tag's cells in order: coarse ones that end by a time, then the points of the first one that doesn't."""
    for part in visible_history(counter).parts:
        cells = _read(source, state, counter, part, [tag.id]).get(tag.id)
        if cells is None or not len(cells):
            continue
        later = np.flatnonzero(cells.wall_max > wall_time)
        if not len(later):
            yield cells
            continue
        cut = int(later[0])
        yield cells.take(slice(0, cut))
        within = Part(part.attempt, int(cells.first.steps[cut]), int(cells.last.steps[cut]))
        yield _read(source, state, counter, within, [tag.id], rows_max=1)[tag.id]
        return


def _read(
    source: Source, state: RunState, counter: Counter, part: Part, tag_ids: list[int], rows_max: int = ANY_ROWS
) -> dict[int, Cells]:
    return source.cells(
        state.id, counter.id, part.attempt, tag_ids, first_step=part.first, last_step=part.last, rows_max=rows_max
    )


def _summary(counter: str, cells: Cells) -> TagSummary:
    cell = cells if len(cells) == 1 else envelope.grouped(cells, np.zeros(1, np.int64))
    finite = cell.min.steps[0] != NOWHERE
    return TagSummary(
        counter=counter,
        first=_mark(cell.first, 0),
        last=_mark(cell.last, 0),
        min=_mark(cell.min, 0) if finite else None,
        max=_mark(cell.max, 0) if finite else None,
        mean=float(cell.mean[0]) if finite else None,
        count=int(cell.count[0]),
        nonfinite=int(cell.nonfinite[0]),
    )


def _mark(marks: Marks, index: int) -> Mark:
    return Mark(int(marks.steps[index]), float(marks.wall_times[index]), float(marks.values[index]))
