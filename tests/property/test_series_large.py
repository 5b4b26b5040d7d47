"""Series of real size, on all levels of the store at once: buckets of any range are what numpy finds."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import event
from hypothesis import strategies as st

from tallyboard.wire import Batch, Columns, Float64, Int64, Rewind
from tallyboard_server.contract import apply, new_run
from tallyboard_server.model import RunState
from tallyboard_server.series import Allowance, Line, Question, read_lines
from tallyboard_server.series.question import Along
from tallyboard_server.store.protocol import Snapshot, Store
from tests.examples import given_on_engines
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

BATCH = 1_500
BEGIN = 1_760_000_000_000_000_000
"""Steps count nanoseconds, further apart than float64 tells them from each other."""


@dataclass
class Sent:
    """What was sent and is visible, and the store that has it: merged up to a part of it, the rest at level 0."""

    store: Store
    state: RunState
    steps: Int64
    walls: Float64
    values: Float64
    tokens: Int64

    def x(self, axis: str) -> Along:
        if axis == "step":
            return self.steps
        if axis == "tokens":
            return np.maximum.accumulate(self.tokens)
        walls = np.maximum.accumulate(self.walls)
        return walls - walls[0] if axis == "relative" else walls


@pytest.fixture(scope="module")
def sent(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    rng = np.random.default_rng(4)
    n = 90_000
    steps = BEGIN + np.cumsum(rng.integers(1, 10**9, n))
    walls: Float64 = np.asarray(1.7e9 + np.arange(n) * 0.1, np.float64)
    for begin in range(7_000, n, 23_000):  # the clock is set back, and stutters
        walls[begin:] -= 50.0
        walls[begin + 300 : begin + 420] = walls[begin + 300]
    values: Float64 = rng.normal(size=n)
    values[rng.integers(0, n, 300)] = np.nan
    values[20_000:21_000] = np.inf
    tokens = np.arange(n) * 512 - np.where(np.arange(n) % 40_000 == 39_999, 10_000, 0)
    cut = 50_000
    store = stores.open(tmp_path_factory.mktemp("store"))
    state = new_run(1, "large/run", now=0.0)
    with store.transaction() as transaction:
        transaction.save(state)
    old: Float64 = np.asarray(values + 1.0, np.float64)
    state = _send(store, state, steps[: cut + 20_000], walls, old, tokens, Rewind(next_steps={"loss_step": 0}))
    _merge(store, state)
    state = _send(
        store, state, steps[cut:], walls[cut:], values[cut:], tokens[cut:],
        Rewind(next_steps={"loss_step": int(steps[cut])}),
    )  # fmt: skip
    values = np.concatenate([old[:cut], values[cut:]])
    yield Sent(store, state, steps, walls, values, tokens)
    store.close()


def _send(
    store: Store, state: RunState, steps: Int64, walls: Float64, values: Float64, tokens: Int64, rewind: Rewind
) -> RunState:
    for begin in range(0, len(steps), BATCH):
        rows = slice(begin, begin + BATCH)
        part = steps[rows]
        columns = Columns(
            "loss_step", ("loss",), part, walls[rows][: len(part)], values[rows][: len(part), None],
            {"tokens": np.maximum(tokens[rows][: len(part)], 0)},
        )  # fmt: skip
        batch = Batch(rewind=None if begin else rewind, columns=(columns,))
        outcome = apply(state, batch, now=1.0, last_step_before=lambda *_: int(steps[0]) - 1)
        state = outcome.state
        with store.transaction() as transaction:
            transaction.save(state, outcome.blocks)
    tokens_seen = Batch(columns=(Columns("tokens", ("t",), np.zeros(1, np.int64), walls[:1], np.zeros((1, 1))),))
    outcome = apply(state, tokens_seen, now=1.0, last_step_before=lambda *_: None)
    with store.transaction() as transaction:
        transaction.save(outcome.state, outcome.blocks)
    return outcome.state


def _merge(store: Store, state: RunState) -> None:
    while True:
        with store.snapshot() as view:
            places = view.mergeable(state.id, up_to_pos=state.pos, min_blocks=2)
            found = [view.whole_batches(state.id, *place, up_to_pos=state.pos, rows_max=65_536) for place in places]
        if not any(len(blocks) > 1 for blocks in found):
            return
        for blocks in found:
            merge = store.prepare_merge(state.id, blocks)
            with store.transaction() as transaction:
                transaction.merge(merge)


@given_on_engines(
    60,
    elsewhere=12,
    axis=st.sampled_from(["step", "wall_time", "relative", "tokens"]),
    ends=st.tuples(st.integers(0, 89_999), st.integers(0, 89_999)).map(sorted),
    bounded=st.sampled_from(["both", "from", "to", "neither"]),
    buckets=st.sampled_from([1, 7, 100, 1_000, 10_000]),
)
def test_buckets_of_any_range_are_exact(
    stores: Stores, sent: Sent, axis: str, ends: list[int], bounded: str, buckets: int
) -> None:
    del stores  # `sent` is in one of them

    x = sent.x(axis)
    first = x[ends[0]].item() if bounded in ("both", "from") else None
    last = x[ends[1]].item() if bounded in ("both", "to") else None
    with sent.store.snapshot() as view:
        line = read(view, sent, Question(axis, first, last, buckets))
    kept = np.ones(len(x), bool)
    if first is not None:
        kept &= x >= first
    if last is not None:
        kept &= x <= last
    rows = np.flatnonzero(kept)
    event("buckets" if line.merged else "points")
    check(line, sent, x, rows, buckets)


def read(view: Snapshot, sent: Sent, asked: Question) -> Line:
    (line,) = read_lines(view, sent.state, ["loss"], asked, Allowance(10**9))
    return line


def check(line: Line, sent: Sent, x: Along, rows: Int64, buckets: int) -> None:
    cells = line.cells
    assert cells.count.sum() == len(rows)
    assert len(cells) <= buckets
    begins = np.concatenate([[0], np.cumsum(cells.count)])
    firsts, lasts = rows[begins[:-1]], rows[begins[1:] - 1]
    np.testing.assert_array_equal(cells.first.steps, sent.steps[firsts])
    np.testing.assert_array_equal(cells.last.values, sent.values[lasts])
    np.testing.assert_array_equal(line.x.first, x[firsts])
    np.testing.assert_array_equal(line.x.last, x[lasts])
    for i in range(len(cells)):
        part = rows[begins[i] : begins[i + 1]]
        values = sent.values[part]
        finite = np.isfinite(values)
        assert cells.nonfinite[i] == (~finite).sum()
        if not finite.any():
            assert np.isnan(cells.mean[i])
            continue
        least = part[np.flatnonzero(finite)[values[finite].argmin()]]
        greatest = part[np.flatnonzero(finite)[values[finite].argmax()]]
        assert (cells.min.steps[i], cells.min.wall_times[i]) == (sent.steps[least], sent.walls[least])
        assert (line.x.min[i], line.x.max[i]) == (x[least], x[greatest])
        assert (cells.max.values[i], cells.max.steps[i]) == (sent.values[greatest], sent.steps[greatest])
        np.testing.assert_allclose(cells.mean[i], values[finite].mean(), rtol=1e-12, atol=1e-13)
