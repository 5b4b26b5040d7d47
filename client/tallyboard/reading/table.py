"""Puts the blocks of exports together into columns, a run at a time."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tallyboard.errors import ReadError
from tallyboard.reading.service import Frame
from tallyboard.wire import Float64, Int64

POINTS_MAX: Final = 100_000_000
"""About 5 GB while it is put together."""

Table = dict[str, npt.NDArray[Any]]
"""Columns of equal length by name."""


@dataclass(slots=True)
class _Curve:
    """Points of one tag on one counter, piece by piece as they came."""

    attempts: list[Int64] = field(default_factory=list)
    superseded: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    steps: list[Int64] = field(default_factory=list)
    wall_times: list[Float64] = field(default_factory=list)
    values: list[Float64] = field(default_factory=list)
    x: list[Int64] = field(default_factory=list)


class TableMaker:
    """The table in the making: curves of the run that is read, and columns of the runs before it."""

    def __init__(self, points_max: int, *, x: str | None, told: bool) -> None:
        self._points_max = points_max
        self._points = 0
        self._x = x
        self._told = told
        self._curves: dict[tuple[str, str], _Curve] = {}
        self._names: dict[str, list[str]] = {"run": [], "counter": [], "tag": []}
        self._counts: list[int] = []
        self._parts: dict[str, list[npt.NDArray[Any]]] = {"step": [], "wall_time": [], "value": []}
        if x is not None:
            self._parts["x"] = []
        if told:
            self._parts |= {"attempt": [], "superseded": []}

    def take(self, run: str, frame: Frame) -> None:
        """Add a block of the run that is read."""
        steps = np.frombuffer(frame.steps, "<i8")
        wall_times = np.frombuffer(frame.wall_times, "<f8")
        values = np.frombuffer(frame.values, "<f8").reshape(len(steps), len(frame.tags))
        x = None if frame.x is None else np.frombuffer(frame.x, "<i8")
        self._points += values.size
        if self._points > self._points_max:
            raise ReadError(
                f"more than {self._points_max:,} points up to run {run}; name fewer runs or tags, or raise points_max"
            )
        for column, tag in enumerate(frame.tags):
            curve = self._curves.setdefault((tag, frame.counter), _Curve())
            curve.attempts.append(np.full(len(steps), frame.attempt))
            curve.superseded.append(np.full(len(steps), frame.superseded))
            curve.steps.append(steps)
            curve.wall_times.append(wall_times)
            curve.values.append(values[:, column])
            if x is not None:
                curve.x.append(x)

    def drop(self) -> None:
        """Forget what was taken of the run that is read."""
        self._points -= sum(sum(map(len, curve.steps)) for curve in self._curves.values())
        self._curves.clear()

    def close(self, run: str) -> None:
        """That was all of a run."""
        for (tag, counter), curve in sorted(self._curves.items()):
            columns = self._ordered(curve)
            for name, parts in self._parts.items():
                parts.append(columns[name])
            for name, text in (("run", run), ("counter", counter), ("tag", tag)):
                self._names[name].append(text)
            self._counts.append(len(columns["step"]))
        self._curves.clear()

    def columns(self) -> Table:
        """The whole table."""
        kinds = {"step": np.int64, "attempt": np.int64, "superseded": np.bool_, "x": np.float64}
        found: Table = {name: _repeated(texts, self._counts) for name, texts in self._names.items()}
        for name, parts in self._parts.items():
            found[name] = np.concatenate(parts) if parts else np.empty(0, kinds.get(name, np.float64))
            parts.clear()
        order = ("run", "counter", "tag", "step", "wall_time", "value", "x", "attempt", "superseded")
        return {name: found[name] for name in order if name in found}

    def _ordered(self, curve: _Curve) -> Table:
        attempts, steps = np.concatenate(curve.attempts), np.concatenate(curve.steps)
        found: Table = {
            "step": steps,
            "wall_time": np.concatenate(curve.wall_times),
            "value": np.concatenate(curve.values),
            "attempt": attempts,
            "superseded": np.concatenate(curve.superseded),
        }
        if curve.x:
            found["x"] = np.concatenate(curve.x)
        later = attempts[1:] > attempts[:-1]
        if not np.all(later | (steps[1:] > steps[:-1])):
            order = np.lexsort((steps, attempts))
            found = {name: column[order] for name, column in found.items()}
        if self._x == "relative":
            walls = found["wall_time"]
            found["x"] = np.maximum.accumulate(walls) - walls[0]
        elif self._x is not None:
            found["x"] = np.maximum.accumulate(found["x"])
        return found


def _repeated(texts: list[str], counts: list[int]) -> npt.NDArray[Any]:
    """Each text so many times, as one object each; without any, of a kind that says text all the same."""
    return np.repeat(np.array(texts, object), counts) if texts else np.empty(0, "<U1")
