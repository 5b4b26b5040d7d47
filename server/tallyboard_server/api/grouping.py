"""Runs put together by a value of their config, and what each group shows."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tallyboard_server.api.chartmessages import Group
from tallyboard_server.api.drawn import Drawing
from tallyboard_server.model import RunState
from tallyboard_server.series import Line, PointsTooManyError
from tallyboard_server.series.groups import INTERPOLATION, Curve, across, common_grid, curve_of

_PREFIX: Final = "config."
_RANK: Final = re.compile(r"/rank\d+$", re.ASCII)
_BY_NAME: Final[Mapping[str, Callable[[str], str | None]]] = {
    "run.all": lambda _: None,
    "run.ranks": lambda name: _RANK.sub("", name),
}
"""Ways to group that are no keys of a config: all runs together; the ranks of each run (`a/b/rank00`, `a/b/rank01`),
and the run itself. A config's own `run.all` is still there as `config.run.all`."""


class Grouping:
    """Collects lines of runs, and makes groups of them at the end."""

    interpolation = INTERPOLATION

    def __init__(self, path: str, places_max: int) -> None:
        """path: of a config key, dots reach into nested objects, or one of _BY_NAME; places_max: on a common axis."""
        self._path = path
        self._places_max = places_max
        self._curves: dict[str, dict[bytes, list[Curve]]] = {}
        self._values: dict[bytes, Any] = {}

    def add(self, state: RunState, lines: list[Line]) -> None:
        """Take in a run."""
        by_name = _BY_NAME.get(self._path)
        value = by_name(state.name) if by_name else config_value(state.meta.config, self._path)
        key = msgspec.json.encode(_plain(value), order="sorted")
        self._values.setdefault(key, value)
        for line in lines:
            self._curves.setdefault(line.tag, {}).setdefault(key, []).append(curve_of(line))

    def groups(self, drawing: Drawing, points_max: int) -> list[Group]:
        """By tag, then value; raises PointsTooManyError beyond points_max places in all."""
        found = []
        left = points_max
        for tag in sorted(self._curves):
            by_value = self._curves[tag]
            grid = common_grid([curve for curves in by_value.values() for curve in curves], self._places_max)
            left -= len(grid) * len(by_value)
            if left < 0:
                raise PointsTooManyError(
                    f"groups of more than {points_max} places in all; ask for fewer buckets, or fewer tags"
                )
            for key in sorted(by_value, key=self._order):
                curves = by_value[key]
                found.append(
                    Group(
                        value=self._values[key],
                        tag=tag,
                        runs=len(curves),
                        nonfinite=sum(curve.nonfinite for curve in curves),
                        points=drawing.group(across(curves, grid)),
                    )
                )
        return found

    def _order(self, key: bytes) -> tuple[int, float, bytes]:
        """Numbers by size, then the rest by its JSON, then those without a value."""
        value = self._values[key]
        if value is None:
            return 2, 0.0, key
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return (0, float(value), key) if is_number else (1, 0.0, key)


def config_value(config: Mapping[str, Any], path: str) -> Any:
    """The value at a key, or a dotted path, of a config (`config.` before it may be left out); None if absent."""
    for name in (path, path.removeprefix(_PREFIX)):
        if name in config:
            return config[name]
        value: Any = config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def _plain(value: Any) -> Any:
    """1.0 and 1 are the same value."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
