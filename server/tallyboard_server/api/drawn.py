"""Lines and groups as the messages that answer for them, in JSON or MessagePack columns."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from tallyboard_server.api.answers import Column, binary_column, json_column
from tallyboard_server.api.chartmessages import Buckets, Field, GroupColumns, Lean, Points, Series
from tallyboard_server.model import RunState
from tallyboard_server.series import Line
from tallyboard_server.series.groups import Across
from tallyboard_server.series.question import Along
from tallyboard_server.store.envelope import NOWHERE, Bool, Marks


class Drawing:
    """Makes messages for one question. binary: MessagePack. with_x: x is not the step. fields: all that is wanted, ()
    for everything.

    Series are encoded one by one: as Python objects, all of a large answer would take several times the memory.
    """

    def __init__(self, *, binary: bool, with_x: bool, fields: Sequence[Field] = ()) -> None:
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.encode if binary else msgspec.json.encode
        self._column = binary_column if binary else json_column
        self._binary = binary
        self._with_x = with_x
        self._fields = fields

    def series(self, state: RunState, line: Line, *, append: bool | None) -> msgspec.Raw:
        """A line of a run: a chartmessages.Series."""
        found = Series(
            run=state.name,
            tag=line.tag,
            counter=line.counter,
            count=line.count,
            x_source=None if line.x_source == "own" else line.x_source,
            append=append,
        )
        if line.superseded is not None:
            found.superseded = True
            found.attempt = line.superseded
            found.writer = state.counters[line.counter].attempts[line.superseded - 1].writer
        if self._fields:
            found.lean, found.merged = self._lean(line), line.merged
        elif line.merged:
            found.buckets = self._buckets(line)
        else:
            found.points = self._points(line.cells.first, line.x.first, None)
        return msgspec.Raw(self._encode(found))

    def group(self, found: Across) -> GroupColumns:
        """A group's columns."""
        return GroupColumns(
            x=self._column(found.x),
            count=self._column(found.count),
            mean=self._column(found.mean),
            std=self._column(found.std),
            min=self._column(found.min),
            max=self._column(found.max),
        )

    def _lean(self, line: Line) -> Lean:
        cells, x = line.cells, line.x
        found = Lean()
        if not line.merged:
            found.value = self._column(cells.first.values)
            found.x = self._column(x.first) if "x" in self._fields else None
            return found
        absent = cells.min.steps == NOWHERE
        gaps = absent if absent.any() else None
        columns: dict[Field, tuple[Column, Bool | None]] = {
            "x": (x.first, None),
            "end": (x.last, None),
            "first": (cells.first.values, None),
            "min": (cells.min.values, gaps),
            "max": (cells.max.values, gaps),
            "last": (cells.last.values, None),
            "mean": (cells.mean, gaps),
            "count": (cells.count, None),
            "nonfinite": (cells.nonfinite, None),
        }
        for name in self._fields:
            setattr(found, name, self._with_gaps(*columns[name]))
        return found

    def _buckets(self, line: Line) -> Buckets:
        cells = line.cells
        absent: Bool | None = cells.min.steps == NOWHERE
        if absent is not None and not absent.any():
            absent = None
        return Buckets(
            first=self._points(cells.first, line.x.first, None),
            min=self._points(cells.min, line.x.min, absent),
            max=self._points(cells.max, line.x.max, absent),
            last=self._points(cells.last, line.x.last, None),
            count=self._column(cells.count),
            nonfinite=self._column(cells.nonfinite),
            mean=self._with_gaps(cells.mean, absent),
        )

    def _points(self, marks: Marks, x: Along, absent: Bool | None) -> Points:
        return Points(
            step=self._with_gaps(marks.steps, absent),
            wall_time=self._with_gaps(marks.wall_times, absent),
            value=self._with_gaps(marks.values, absent),
            x=self._with_gaps(x, absent) if self._with_x else None,
        )

    def _with_gaps(self, column: Column, absent: Bool | None) -> Any:
        """A column with null where there is nothing; in MessagePack -1 and NaN."""
        if absent is None:
            return self._column(column)
        if self._binary:
            nothing = np.nan if column.dtype.kind == "f" else NOWHERE
            return self._column(np.where(absent, nothing, column))
        values = json_column(column)
        for index in np.flatnonzero(absent).tolist():
            values[index] = None
        return values
