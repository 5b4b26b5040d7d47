"""Chart data: the visible points of a run's tags, read from blocks of every level."""

from tallyboard_server.series.points import Points, PointsTooManyError, UnknownAxisError, read_points

__all__ = ["Points", "PointsTooManyError", "UnknownAxisError", "read_points"]
