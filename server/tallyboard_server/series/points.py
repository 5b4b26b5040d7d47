"""Every visible point of one tag, exact and in order, on any x axis."""

from dataclasses import dataclass
from typing import Final

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import RunState
from tallyboard_server.series.lines import read_lines
from tallyboard_server.series.question import Allowance, Along, PointsTooManyError, Question, XSource
from tallyboard_server.series.reading import Source

POINTS_MAX: Final = 1_000_000
"""Most points in one raw answer; a wider range is to be read in parts."""


@dataclass(slots=True, frozen=True)
class Points:
    """Visible points of one tag, ascending by step.

    steps int64[n], wall_times float64[n] seconds since the epoch, values float64[n], x float64[n] or int64[n] on the
    axis asked for: non-decreasing. x_source: see question.Line.
    """

    counter: str
    steps: Int64
    wall_times: Float64
    values: Float64
    x: Along
    x_source: XSource = "own"


def read_points(
    view: Source,
    state: RunState,
    tag: str,
    *,
    x: str = "step",
    first: float | None = None,
    last: float | None = None,
    points_max: int = POINTS_MAX,
) -> Points | None:
    """The visible points of a tag with first ≤ x ≤ last; None if the tag has no visible point at all.

    Raises UnknownAxisError if `x` is neither a built-in axis nor a counter of the run, and PointsTooManyError beyond
    points_max.
    """
    try:
        lines = read_lines(view, state, [tag], Question(x, first, last), Allowance(points_max))
    except PointsTooManyError as error:
        raise PointsTooManyError(f"{error}; ask for a smaller range with from= and to=") from error
    if not lines:
        return None
    (line,) = lines
    points = line.cells.first
    return Points(line.counter, points.steps, points.wall_times, points.values, line.x.first, line.x_source)
