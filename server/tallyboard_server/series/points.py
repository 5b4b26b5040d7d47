"""The visible points of one tag, exact and in order, on any x axis."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import Block, Counter, RunState
from tallyboard_server.store.protocol import Snapshot

POINTS_MAX: Final = 1_000_000
"""Most points in one raw answer; a wider range is to be read in parts."""

NOT_RECORDED: Final = -1
"""In a column of `at`: the report did not say where that counter stood (steps are never negative)."""

BUILT_IN_AXES: Final = ("step", "wall_time", "relative")
XSource = Literal["own", "recorded", "as_of_time"]


class UnknownAxisError(ValueError):
    """The x axis is no counter of this run."""


class PointsTooManyError(ValueError):
    """More points than one answer may hold."""


@dataclass(slots=True, frozen=True)
class Points:
    """Visible points of one tag, ascending by step.

    steps int64[n], wall_times float64[n] seconds since the epoch, values float64[n], x float64[n] or int64[n] on the
    axis asked for: non-decreasing. x_source says where x comes from: `own` (the tag's own step or time),
    `recorded` (the `at` of the reports, every one), `as_of_time` (at least partly from when the other counter moved).
    """

    counter: str
    steps: Int64
    wall_times: Float64
    values: Float64
    x: Int64 | Float64
    x_source: XSource = "own"


def read_points(
    view: Snapshot,
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
    if x not in BUILT_IN_AXES and x not in state.counters:
        raise UnknownAxisError(f"x={x!r}: the axes of {state.name} are {', '.join((*BUILT_IN_AXES, *state.counters))}")
    known = state.tags.get(tag)
    counter = state.counter_by_id(known.counter_id) if known is not None else None
    if known is None or counter is None or not known.is_bound(counter):
        return None
    own_axis = x in ("step", counter.name)
    low, high = _step_range(first, last) if own_axis else (0, 2**63 - 1)
    stretches = list(_visible(view, state.id, counter, known.id, low, high, points_max))
    steps = _joined([block.steps for block in stretches], np.int64)
    walls = _joined([block.wall_times for block in stretches], np.float64)
    values = _joined([block.values[:, 0] for block in stretches], np.float64)
    if own_axis:
        return Points(counter.name, steps, walls, values, steps)
    along: Int64 | Float64
    source: XSource = "own"
    if x in ("wall_time", "relative"):
        along = np.maximum.accumulate(walls)
        if x == "relative":
            along = along - (along[0] if len(along) else 0.0)
    else:
        along, source = _other_counter(view, state, state.counters[x], stretches, walls, points_max)
    keep = np.ones(len(steps), bool)
    if first is not None:
        keep &= along >= first
    if last is not None:
        keep &= along <= last
    return Points(counter.name, steps[keep], walls[keep], values[keep], along[keep], source)


def _step_range(first: float | None, last: float | None) -> tuple[int, int]:
    low = 0 if first is None else max(0, int(np.ceil(first)))
    high = 2**63 - 1 if last is None else min(2**63 - 1, int(np.floor(last)))
    return low, high


def _visible(
    view: Snapshot, run_id: int, counter: Counter, tag_id: int | None, low: int, high: int, points_max: int
) -> Iterator[Block]:
    """Blocks clipped to what is visible in the range, ascending: attempts' visible stretches never overlap.

    Reduced to one tag's values; without a tag to none, for those who want to know only when the counter moved.
    """
    limits = counter.limits()
    total = 0
    for attempt in counter.attempts:
        limit = limits[attempt.number]
        top = high if limit is None else min(high, limit - 1)
        if attempt.last_visible is None or top < attempt.start or low > attempt.last_visible:
            continue
        found = view.blocks(run_id, counter.id, attempt.number, tag_id=tag_id, first_step=low, last_step=top)
        if tag_id is None:
            found = (replace(block, values=block.values[:, :0]) for block in found)
        for block in in_step_order(found):
            clipped = block.between(low, top)
            total += len(clipped.steps)
            if total > points_max:
                raise PointsTooManyError(f"more than {points_max} points; ask for a smaller range with from= and to=")
            if len(clipped.steps):
                yield clipped


def in_step_order(blocks: Iterator[Block]) -> Iterator[Block]:
    """Merge neighbours whose step ranges overlap, so that what comes out ascends throughout.

    Blocks come ascending by first step and reduced to one tag, which has each step once in an attempt.
    """
    held: list[Block] = []
    top = -1
    for block in blocks:
        if held and int(block.steps[0]) > top:
            yield _interleaved(held)
            held = []
        held.append(block)
        top = max(top, int(block.steps[-1]))
    if held:
        yield _interleaved(held)


def _interleaved(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    names = {name for block in blocks for name in block.at}
    joined = Block(
        blocks[0].pos,
        blocks[0].counter_id,
        blocks[0].attempt,
        blocks[0].tag_ids,
        np.concatenate([block.steps for block in blocks]),
        np.concatenate([block.wall_times for block in blocks]),
        np.concatenate([block.values for block in blocks]),
        {name: np.concatenate([_at(block, name) for block in blocks]) for name in names},
    )
    return joined.take(np.argsort(joined.steps, kind="stable"))


def _at(block: Block, counter_id: int) -> Int64:
    """Where a counter stood, NOT_RECORDED in blocks that don't say."""
    column = block.at.get(counter_id)
    return np.full(len(block.steps), NOT_RECORDED) if column is None else column


def _other_counter(
    view: Snapshot, state: RunState, other: Counter, stretches: list[Block], walls: Float64, points_max: int
) -> tuple[Int64, XSource]:
    """Where another counter stood at each point: as recorded, else its last report by that time (0 before any)."""
    along = _joined([_at(block, other.id) for block in stretches], np.int64)
    missing = along == NOT_RECORDED
    source: XSource = "recorded"
    if missing.any():
        source = "as_of_time"
        blocks = list(_visible(view, state.id, other, None, 0, 2**63 - 1, points_max))
        steps = _joined([block.steps for block in blocks], np.int64)
        times = _joined([block.wall_times for block in blocks], np.float64)
        order = np.argsort(times, kind="stable")
        reached = np.concatenate([np.zeros(1, np.int64), np.maximum.accumulate(steps[order])])
        along = np.where(missing, reached[np.searchsorted(times[order], walls, side="right")], along)
    return np.maximum.accumulate(along), source


def _joined(columns: list[Any], kind: type[np.generic]) -> Any:
    return np.concatenate(columns) if columns else np.empty(0, kind)
