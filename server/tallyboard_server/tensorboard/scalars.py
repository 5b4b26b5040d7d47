"""Scalar time series inside the size that TensorBoard asks for, in which no spike and no NaN gets lost."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from tensorboard.data import provider

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import RunState
from tallyboard_server.series import Allowance, HistoryChangedError, Line, Question, RunReader, read_lines
from tallyboard_server.series.reading import HOLD_S, Source
from tallyboard_server.series.summary import summarise
from tallyboard_server.series.walk import buckets_along_steps
from tallyboard_server.store.envelope import NOWHERE, Cells, Marks
from tallyboard_server.store.protocol import Store

_TRIES: Final = 3
"""Times that a run is read in short snapshots, before one is held for as long as it takes."""
_MARKS: Final = 4
"""Points that stand for a bucket: its first, least, greatest and last one; a fifth if a NaN or ±Inf is none of them."""
_SEARCHES_MAX: Final = 32
"""Buckets of one series that are searched for a NaN or ±Inf; each takes some reads."""
_SEARCH_BUCKETS: Final = 64
_SEARCH_DEPTH_MAX: Final = 12
"""64^12 points are more than there can be."""

Series = dict[str, Any]
"""By tag: a list of ScalarDatum, ascending by step, or the last one."""
_Read = Callable[[RunReader, RunState], Series]


def read_series(store: Store, run: str, tags: Sequence[str] | None, size: int) -> tuple[int, Series]:
    """The visible points of a run's tags, at most `size` of each, and in which version of the run; None: of all tags.

    Of a longer series: the first, least, greatest and last of each bucket, the last point always among them.
    """

    def read(reader: RunReader, state: RunState) -> Series:
        wanted = list(state.tags) if tags is None else tags
        asked, allowance = Question(buckets=max(size, 1)), Allowance(max(size, 1) * len(wanted))
        lines = read_lines(reader, state, wanted, asked, allowance)
        return {line.tag: _data(*_shown(reader, state, line, size)) for line in lines}

    return _read(store, run, read)


def read_last(store: Store, run: str) -> tuple[int, Series]:
    """The last visible point of each tag of a run, a ScalarDatum by tag, and in which version of the run."""

    def read(reader: RunReader, state: RunState) -> Series:
        found = summarise(reader, state, state.tags)
        return {
            tag: provider.ScalarDatum(summary.last.step, summary.last.wall_time, summary.last.value)
            for tag, summary in found.items()
        }

    return _read(store, run, read)


def _read(store: Store, run: str, read: _Read) -> tuple[int, Series]:
    """What `read` finds in a run that may change meanwhile; (0, {}) if there is no such run."""
    for _ in range(_TRIES):
        with suppress(HistoryChangedError):
            return _read_once(store, run, read, HOLD_S)
    return _read_once(store, run, read, None)


def _read_once(store: Store, run: str, read: _Read, hold_s: float | None) -> tuple[int, Series]:
    with RunReader(store.snapshot, hold_s=hold_s) as reader:
        if (loaded := reader.load_version(run)) is None:
            return 0, {}
        state, version = loaded
        return version, read(reader, state)


def _shown(source: Source, state: RunState, line: Line, size: int) -> tuple[Int64, Float64, Float64]:
    """Steps, wall times and values of at most `size` points that show what a line shows; columns of equal length."""
    if not line.merged:
        return _columns([line.cells.first])
    if size < _MARKS:
        cell = buckets_along_steps(line.cells, 1)
        return _columns([cell.last, cell.first, cell.max][:size])
    cells = buckets_along_steps(line.cells, size // _MARKS)
    hidden = _hidden(cells)
    if not len(hidden) or size <= _MARKS:
        return _columns([cells.first, cells.min, cells.max, cells.last])
    cells = buckets_along_steps(line.cells, size // (_MARKS + 1))
    hidden = _hidden(cells)
    chosen = hidden[np.linspace(0, len(hidden) - 1, min(len(hidden), _SEARCHES_MAX)).astype(np.int64)]
    odd = [_first_nonfinite(source, state, line, cells, cell) for cell in chosen.tolist()]
    return _columns([cells.first, cells.min, cells.max, cells.last, *odd])


def _hidden(cells: Cells) -> Int64:
    """The cells with a NaN or ±Inf that is neither their first nor their last point."""
    ends = np.isfinite(cells.first.values) & np.isfinite(cells.last.values)
    return np.flatnonzero((cells.nonfinite > 0) & ends)


def _first_nonfinite(source: Source, state: RunState, line: Line, cells: Cells, cell: int) -> Marks:
    """The first NaN or ±Inf of a cell that has one."""
    first, last = int(cells.first.steps[cell]), int(cells.last.steps[cell])
    for _ in range(_SEARCH_DEPTH_MAX):
        asked = Question("step", first, last, _SEARCH_BUCKETS)
        (found,) = read_lines(source, state, [line.tag], asked, Allowance(_SEARCH_BUCKETS))
        place = int(np.flatnonzero(found.cells.nonfinite)[0])
        if not found.merged:
            return found.cells.first.take(slice(place, place + 1))
        first, last = int(found.cells.first.steps[place]), int(found.cells.last.steps[place])
    raise LookupError(f"no NaN or ±Inf of {line.tag!r} is where one was counted")


def _columns(marks: Sequence[Marks]) -> tuple[Int64, Float64, Float64]:
    """Points by step, each once; a tag has one point at a step. Marks of points that there are not are left out."""
    steps = np.concatenate([part.steps for part in marks])
    steps, index = np.unique(steps, return_index=True)
    absent = int(len(steps) > 0 and steps[0] == NOWHERE)
    wall_times = np.concatenate([part.wall_times for part in marks])[index]
    values = np.concatenate([part.values for part in marks])[index]
    return steps[absent:], wall_times[absent:], values[absent:]


def _data(steps: Int64, wall_times: Float64, values: Float64) -> list[Any]:
    return list(map(provider.ScalarDatum, steps.tolist(), wall_times.tolist(), values.tolist()))
