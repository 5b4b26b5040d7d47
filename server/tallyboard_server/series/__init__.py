"""Chart data: the visible points of a run's tags, or buckets of them, read from blocks of every level."""

from tallyboard_server.series.lines import Levels, read_lines
from tallyboard_server.series.points import Points, read_points
from tallyboard_server.series.question import (
    Allowance,
    HistoryChangedError,
    Line,
    Places,
    PointsTooManyError,
    Question,
    SeriesTooManyError,
    UnknownAxisError,
)
from tallyboard_server.series.reading import RunReader, Source

__all__ = [
    "Allowance",
    "HistoryChangedError",
    "Levels",
    "Line",
    "Places",
    "Points",
    "PointsTooManyError",
    "Question",
    "RunReader",
    "SeriesTooManyError",
    "Source",
    "UnknownAxisError",
    "read_lines",
    "read_points",
]
