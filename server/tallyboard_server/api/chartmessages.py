"""What the chart routes take and answer, as msgspec types."""

from typing import Any, Literal

import msgspec

from tallyboard.wire import Message

XSource = Literal["recorded", "as_of_time"]
Attempts = Literal["visible", "all"]

Field = Literal["x", "end", "first", "min", "max", "last", "mean", "count", "nonfinite"]
"""What of a bucket may be asked for; see Lean."""

Steps = list[int] | memoryview
Numbers = list[float | str | None] | memoryview
Xs = list[int | float | None] | memoryview


class QueryBody(Message, rename={"first": "from", "last": "to"}):
    """A body of POST /query: the parameters of GET /scalars, with `run` and `tag` as lists `runs` and `tags`."""

    runs: tuple[str, ...]
    tags: tuple[str, ...] = ()
    x: str = "step"
    first: int | float | None = None
    last: int | float | None = None
    buckets: int | None = None
    attempts: Attempts = "visible"
    group: str | None = None
    since: str | None = None
    fields: tuple[Field, ...] = ()


class Points(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Columns of equal length, ascending by step.

    Lists in JSON, with non-finite values as "NaN", "Infinity" and "-Infinity"; little-endian binary in MessagePack
    (step int64, wall_time and value float64, x int64 along a counter and else float64). x is left out where it is
    the step. Where there is no such point (`min` and `max` of a bucket without a finite value): null, in MessagePack
    step -1 and NaN.
    """

    step: list[int | None] | memoryview
    wall_time: Numbers
    value: Numbers
    x: Xs | None = None


class Buckets(msgspec.Struct, kw_only=True):
    """Columns of equal length, a place for each bucket, ascending by step and x; all visible points are in one each.

    first, min, max, last: a point of each bucket, with where it is (min and max over finite values, the first of
    equals). count, nonfinite: how many points, and how many of them are NaN or ±Inf; mean: of the finite ones, null
    if there are none. count and nonfinite are int64 in MessagePack, mean float64.
    """

    first: Points
    min: Points
    max: Points
    last: Points
    count: Steps
    nonfinite: Steps
    mean: Numbers


class Lean(msgspec.Struct, kw_only=True, omit_defaults=True):
    """As much of a series as was asked for by `fields`: columns of equal length, ascending by x.

    Of buckets: `x` and `end` are the places of the first and the last point; first, min, max, last and mean values,
    null (in MessagePack NaN) where a bucket has no finite one; count, nonfinite: how many points. Of single points: `x`
    (if it was asked for) and `value`, which is in the place of all the others. Types are those of Points and Buckets.
    """

    x: Xs | None = None
    end: Xs | None = None
    first: Numbers | None = None
    min: Numbers | None = None
    max: Numbers | None = None
    last: Numbers | None = None
    mean: Numbers | None = None
    count: Steps | None = None
    nonfinite: Steps | None = None
    value: Numbers | None = None


class Series(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The visible points of one tag of one run: either `points`, each of them, or `buckets`. count: of points.

    If `fields` were asked for, there is `lean` in their place, and `merged` says whether it has buckets.

    x_source says how another counter's x was found: `recorded` with every report (its `at`), or at least partly
    `as_of_time`, from when that counter moved. It is left out on the other axes.
    superseded: these are points that a rewind has hidden, of this `attempt` of the counter by this `writer`.
    append: only if `since` was asked: these follow what was there; false: they replace it.
    """

    run: str
    tag: str
    counter: str
    count: int
    points: Points | None = None
    buckets: Buckets | None = None
    lean: Lean | None = None
    merged: bool = False
    x_source: XSource | None = None
    superseded: bool = False
    attempt: int | None = None
    writer: str | None = None
    append: bool | None = None


class GroupColumns(msgspec.Struct, kw_only=True):
    """Columns of equal length over common places x: how many runs reach there, and over their values mean, sample
    standard deviation (0 of one run), least and greatest.

    In MessagePack count is int64, x int64 along a counter, the rest float64.
    """

    x: list[int | float] | memoryview
    count: Steps
    mean: Numbers
    std: Numbers
    min: Numbers
    max: Numbers


class Group(msgspec.Struct, kw_only=True):
    """One tag across the runs whose config has the same value; null: not there.

    runs: how many have the tag. nonfinite: how many of their points are NaN or ±Inf, and left out.
    """

    value: Any
    tag: str
    runs: int
    nonfinite: int
    points: GroupColumns


class Missing(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was asked for and is not there: a run, a tag of a run that is, or the x axis of a run.

    With `since` also what was there and is no more: to be dropped before the answer's series are taken.
    """

    run: str
    tag: str | None = None
    x: str | None = None
    attempt: int | None = None


class Chart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Chart data: series (each a Series) in the order of runs, then tags, as asked for; groups by tags, then values.

    cursor: for `since`, to ask later for what is new. interpolation: how a run's value was found at places where it
    has no point; only with groups.
    """

    x: str
    series: list[msgspec.Raw]
    missing: list[Missing]
    cursor: str | None = None
    groups: list[Group] | None = None
    interpolation: str | None = None
