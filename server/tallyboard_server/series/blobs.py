"""The visible points of a tag that is no scalar: images, text, histograms, … as TensorBoard asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard.wire import Blob, Float64, Int64
from tallyboard.wire.limits import STEP_MAX
from tallyboard_server.model import RunState
from tallyboard_server.series.history import visible_history
from tallyboard_server.series.question import PointsTooManyError
from tallyboard_server.store.protocol import Snapshot

POINTS_MAX: Final = 1_000_000
"""Most points of one tag that are looked through, 24 bytes each."""


@dataclass(slots=True, frozen=True)
class BlobPoints:
    """Visible points of one tag, ascending by step: steps int64[n], wall_times float64[n], keys float64[n].

    kind, metadata: of the tag (see model.Tag). total: how many visible points there are, of which these are a sample.
    """

    counter: str
    kind: str
    metadata: bytes
    steps: Int64
    wall_times: Float64
    keys: Float64
    total: int


def read_blob_points(
    view: Snapshot,
    state: RunState,
    tag: str,
    *,
    at_most: int,
    first: int = 0,
    last: int = STEP_MAX,
) -> BlobPoints | None:
    """Where the visible points of a tag are with first ≤ step ≤ last; `Snapshot.blobs` gives what they are.

    Of more than at_most points, that many spread evenly, the first and the last always among them (of one: the last).
    None if the run has no visible point of a tag of that name, or its points are numbers. Raises PointsTooManyError
    beyond POINTS_MAX points in the range.
    """
    known = state.tags.get(tag)
    counter = state.counter_by_id(known.counter_id) if known is not None else None
    if known is None or counter is None or known.is_scalar or not known.is_bound(counter):
        return None
    found = [np.empty((3, 0))]
    total = 0
    for part in visible_history(counter).between(first, last):
        for block in view.blocks(
            state.id, counter.id, part.attempt, tag_id=known.id, first_step=part.first, last_step=part.last
        ):
            rows = block.between(part.first, part.last)
            total += len(rows.steps)
            if total > POINTS_MAX:
                raise PointsTooManyError(f"more than {POINTS_MAX} points; ask for a smaller range of steps")
            found.append(np.stack([rows.steps.view(np.float64), rows.wall_times, rows.values[:, 0]]))
    columns = np.concatenate(found, axis=1)
    columns = columns[:, np.argsort(columns[0].view(np.int64), kind="stable")]
    chosen = columns[:, sample(total, at_most)]
    return BlobPoints(counter.name, known.kind, known.metadata, chosen[0].view(np.int64), chosen[1], chosen[2], total)


def sample(count: int, at_most: int) -> Int64:
    """Which of so many points to take: all, or at_most spread evenly, the last always and the first if two fit."""
    if count <= at_most:
        return np.arange(count)
    if at_most <= 1:
        return np.arange(count - at_most, count)
    return np.arange(at_most) * (count - 1) // (at_most - 1)


def read_blobs(view: Snapshot, state: RunState, keys: Sequence[float]) -> list[Blob | None]:
    """The blobs of keys, in their order; None for one that is not there, which only damage can bring about."""
    found = view.blobs(state.id, list(dict.fromkeys(keys)))
    return [found.get(key) for key in keys]
