"""What `add_scalars` reported, kept for `export_scalars_to_json`: 24 bytes a scalar, and bounded."""

import json
import math
from array import array
from pathlib import Path
from typing import Final

SCALARS_MAX: Final = 1_000_000
"""24 MB; tensorboardX keeps every one for ever."""


class Exported:
    """By the path that tensorboardX gives each line of a chart."""

    def __init__(self) -> None:
        self._lines: dict[str, array[float]] = {}
        self._left = SCALARS_MAX

    def add(self, line: str, wall_time: float, step: int | None, value: float) -> bool:
        """Keep a point. Returns whether there was room for it."""
        if self._left <= 0:
            return False
        self._left -= 1
        self._lines.setdefault(line, array("d")).extend((wall_time, math.nan if step is None else step, value))
        return True

    def points(self) -> dict[str, list[list[float | None]]]:
        """`{line: [[wall time, step, value], …]}`, as tensorboardX's `scalar_dict`."""
        return {
            line: [[flat[i], _step(flat[i + 1]), flat[i + 2]] for i in range(0, len(flat), 3)]
            for line, flat in self._lines.items()
        }

    def write(self, path: str) -> None:
        """Write all of it as JSON, and forget it. Raises OSError."""
        Path(path).write_text(json.dumps(self.points()), encoding="utf-8")
        self._lines.clear()
        self._left = SCALARS_MAX


def _step(number: float) -> int | None:
    return None if math.isnan(number) else int(number)
