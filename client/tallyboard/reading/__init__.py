"""`tallyboard.read`: every point of runs as a table of NumPy columns, for pandas, polars or plain NumPy."""

import os
from collections.abc import Iterable
from typing import Literal, get_args

from tallyboard.errors import ConfigurationError, RunNotFoundError
from tallyboard.reading.service import Service
from tallyboard.reading.table import POINTS_MAX, Table, TableMaker

__all__ = ["Attempts", "Table", "read"]

Attempts = Literal["visible", "all"]


def read(
    runs: str | Iterable[str] = "*",
    tags: str | Iterable[str] | None = None,
    *,
    x: str | None = None,
    attempts: Attempts = "visible",
    url: str | None = None,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    points_max: int = POINTS_MAX,
) -> Table:
    """Every point of runs as columns of equal length, which `pandas.DataFrame` and `polars.DataFrame` take as they are.

    runs, tags: names, or patterns as in a shell (`"mnist/*"`, `["loss", "val/*"]`); None: every tag.
    x: adds a column `x`: "relative" (seconds since the tag's first point) or another counter: its value as recorded
    with the report (`at`), else as of the report's time. Like the dashboards' axes it never goes back along a curve.
    attempts: "all" adds superseded points, and the columns `attempt` and `superseded`.
    url, token: the service (TALLYBOARD_URL, TALLYBOARD_TOKEN; else http://127.0.0.1:6007). ca_file: authorities that
    vouch for its certificate (TALLYBOARD_CA_FILE; else those of the system).
    points_max: beyond it ReadError is raised instead of filling the memory.

    Columns: run, counter, tag (str objects), step (int64), wall_time (float64, seconds since the epoch), value
    (float64, as reported, NaN and infinities included). Rows: runs in the order of their names as the service lists
    them (those named come first, as named), then by tag, each tag's in the order of attempts and steps. Each run is as
    it stood at one moment.

    Raises RunNotFoundError if a run that is named does not exist, or a pattern matches none; ReadError if the service
    does not answer, refuses, or breaks off; ConfigurationError (a ValueError) for a url, token, ca_file or option
    that is none.
    """
    if attempts not in get_args(Attempts):
        raise ConfigurationError(f"attempts {attempts!r} is not known; use 'visible' or 'all'")
    wanted = [runs] if isinstance(runs, str) else list(runs)
    query: list[tuple[str, str]] = [("format", "msgpack"), ("attempts", attempts)]
    query += [("tag", tag) for tag in ([tags] if isinstance(tags, str) else tags or ())]
    if x is not None and x != "relative":
        query.append(("x", x))
    with Service.opened(url, token, ca_file) as service:
        found = TableMaker(points_max, x=x, told=attempts == "all")
        for run in service.matching(wanted):
            try:
                for frame in service.frames(run, query):
                    found.take(run, frame)
            except RunNotFoundError:
                if run in wanted:
                    raise
                found.drop()  # deleted since the runs were listed
            found.close(run)
    return found.columns()
