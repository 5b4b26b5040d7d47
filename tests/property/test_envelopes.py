"""Cells of any size, range, tags and `at`, after merges, compactions and prunes in any order, against every point."""

import math
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from tallyboard_server.checksum import add, checksum
from tallyboard_server.model import Attempt, Block, Counter, RunState, frozen
from tallyboard_server.store.envelope import NOT_RECORDED, NOWHERE, Cells, Marks
from tallyboard_server.store.protocol import Snapshot, Store
from tallyboard_server.store.sql import envelopes, merging
from tests.contract.blocks import run_state
from tests.examples import given_on_engines
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

TAGS = (1, 2, 3)
VALUES = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, 0.1)
OTHER = 2
"""Another counter, whose place reports may carry."""


@dataclass(frozen=True)
class Point:
    """A point as it was reported."""

    step: int
    wall_time: float
    value: float
    at: int


@dataclass
class History:
    """One attempt in a store, beside the points that it should hold, by tag."""

    store: Store
    dice: random.Random
    state: RunState = field(default_factory=lambda: run_state(1, "p/run"))
    points: dict[int, list[Point]] = field(default_factory=lambda: {tag: [] for tag in TAGS})
    step: int = 0
    sent: int = 0

    def begin(self) -> None:
        """Create the run, with its one attempt."""
        none = np.empty(0, np.int32), np.empty(0)
        counter = Counter(1, "global_step", None, (Attempt(1, "w", 0, None, None, *none),))
        self.state = replace(self.state, counters=frozen({"global_step": counter}))
        with self.store.transaction() as transaction:
            transaction.save(self.state)

    def report(self) -> None:
        """One batch: blocks of different tags that go on from where each tag stands, perhaps interleaved."""
        dice = self.dice
        rows = dice.choice((1, 1, 3, 20, 130))
        stride = dice.choice((1, 1, 7, 2**40, 2**55))
        end = self.step + rows * stride
        if end >= 2**63:
            return
        blocks: list[Block] = []
        for tags in dice.choice(([TAGS], [(1, 2), (3,)], [(1,), (2,)], [(2, 3)], [(1,)], [(3, 1)])):
            n = dice.randint(1, rows)
            steps = np.sort(np.array(dice.sample(range(rows), n), np.int64)) * stride + self.step + 1
            blocks.append(self._block(self.state.pos + 1 + len(blocks), steps, tags))
        self.step = end
        self.state = replace(self.state, pos=blocks[-1].pos)
        self.sent = add(self.sent, sum(checksum(block) for block in blocks) % 2**64)
        with self.store.transaction() as transaction:
            known = transaction.load("p/run")
            assert known is not None
            transaction.save(replace(known, pos=self.state.pos), blocks)

    def _block(self, pos: int, steps: Any, tags: Sequence[int]) -> Block:
        dice, n = self.dice, len(steps)
        walls = 1e9 + np.arange(n) / 8 + pos
        if dice.random() < 0.3:
            walls = walls - np.array([dice.choice((0, 0, 5)) for _ in range(n)])
        odd = dice.random() < 0.4
        values = np.array([[dice.choice(VALUES) if odd else dice.random() for _ in tags] for _ in range(n)])
        at: dict[int, Any] = {}
        if (kind := dice.randrange(4)) == 1:
            at = {OTHER: np.full(n, 5)}
        elif kind == 2:
            at = {7: np.zeros(n, np.int64), OTHER: np.arange(n, dtype=np.int64) + pos}
        elif kind == 3:
            at = {OTHER: np.array([dice.randrange(9) for _ in range(n)], np.int64)}
        places = at.get(OTHER, np.full(n, NOT_RECORDED))
        for column, tag in enumerate(tags):
            rows = zip(steps.tolist(), walls.tolist(), values[:, column].tolist(), places.tolist(), strict=True)
            self.points[tag] += [Point(*row) for row in rows]
        return Block(pos, 1, 1, np.array(tags, np.int32), steps, walls, values, at)

    def merge(self) -> None:
        """Merge some of the journal."""
        with self.store.snapshot() as view:
            up_to = self.dice.randint(0, self.state.pos)
            blocks = view.whole_batches(1, 1, 1, up_to_pos=up_to, rows_max=self.dice.choice((1, 50, 10_000)))
        if blocks:
            self._apply(self.store.prepare_merge(1, blocks))

    def compact(self) -> None:
        """Put some groups that follow each other together."""
        with self.store.snapshot() as view:
            stretch = self.dice.choice(view.growing_groups(1, 1, 1, limit=100) or [[]])
            first = self.dice.randrange(len(stretch) + 1)
            groups = stretch[first : first + self.dice.randint(1, 5)]
            blocks = [block for group in groups for block in view.group_blocks(group)]
        if groups:
            self._apply(self.store.prepare_merge(1, blocks, groups))

    def _apply(self, merge: object) -> None:
        with self.store.transaction() as transaction:
            transaction.merge(merge)

    def prune(self) -> None:
        """Thin a group, each tag by itself or all of them at the same steps, or take everything from a step on."""
        with self.store.snapshot() as view:
            group = self.dice.choice(view.groups(1, 1, 1) or [None])
            blocks = view.group_blocks(group) if group is not None else []
        if group is None:
            return
        salt, by_tag = self.dice.randrange(100), self.dice.random() < 0.5
        cut = self.dice.choice((0, group.first_step, (group.first_step + group.last_step) // 2, 2**63 - 1))

        def stays(tag: int, step: int) -> bool:
            return step < cut and (step * 31 + (tag if by_tag else 0) + salt) % 3 != 0

        def keep(block: Block) -> Any:
            mask = [[stays(tag, step) for tag in block.tag_ids.tolist()] for step in block.steps.tolist()]
            return np.array(mask, bool) if by_tag else np.array([row[0] for row in mask], bool)

        with self.store.transaction() as transaction:
            pruned = transaction.prune(self.store.prepare_prune(group, blocks, keep))
        held = {(int(tag), int(step)) for block in blocks for tag in block.tag_ids for step in block.steps}
        before = sum(map(len, self.points.values()))
        for tag in TAGS:
            self.points[tag] = [p for p in self.points[tag] if (tag, p.step) not in held or stays(tag, p.step)]
        assert pruned == before - sum(map(len, self.points.values()))

    def act(self) -> None:
        """Do anything."""
        self.dice.choice((self.report,) * 6 + (self.merge,) * 4 + (self.compact,) * 3 + (self.prune,))()

    def expected(self, tag: int, first: int, last: int) -> list[Point]:
        """Points of a tag in a range."""
        return sorted((p for p in self.points[tag] if first <= p.step <= last), key=lambda p: p.step)


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


def assert_mark(marks: Marks, index: int, wanted: Point | None, at_asked: bool) -> None:
    found = (int(marks.steps[index]), bits(marks.wall_times[index]), bits(marks.values[index]), int(marks.at[index]))
    if wanted is None:
        assert found[0] == NOWHERE
        assert math.isnan(marks.values[index])
        assert math.isnan(marks.wall_times[index])
        assert found[3] == NOT_RECORDED
    else:
        at = wanted.at if at_asked else NOT_RECORDED
        assert found == (wanted.step, bits(wanted.wall_time), bits(wanted.value), at)


def assert_cells(found: Cells | None, points: list[Point], rows_max: int, at_asked: bool) -> None:
    """Cells are the points, grouped as their counts say."""
    counts = [] if found is None else found.count.tolist()
    assert sum(counts) == len(points)
    if found is None:
        return
    begin = 0
    for index, count in enumerate(counts):
        assert 0 < count <= rows_max
        part = points[begin : begin + count]
        begin += count
        finite = [p for p in part if math.isfinite(p.value)]
        assert_mark(found.first, index, part[0], at_asked)
        assert_mark(found.last, index, part[-1], at_asked)
        assert_mark(found.min, index, min(finite, key=lambda p: p.value, default=None), at_asked)
        assert_mark(found.max, index, max(finite, key=lambda p: p.value, default=None), at_asked)
        assert found.nonfinite[index] == len(part) - len(finite)
        assert_mean(found.mean[index], [p.value for p in finite])
        assert found.wall_max[index] == max(p.wall_time for p in part)
        places = [p.at for p in part] if at_asked else [NOT_RECORDED]
        assert found.at_max[index] == max(places)
        walls = [p.wall_time for p in part]
        known = {place == NOT_RECORDED for place in places}
        assert found.ordered[index] == (walls == sorted(walls) and places == sorted(places) and len(known) == 1)


def assert_mean(found: float, values: list[float]) -> None:
    if not values:
        assert math.isnan(found)
        return
    exact = math.fsum(value / len(values) for value in values)
    assert abs(found - exact) <= 1e-12 * max(abs(value) for value in values) + 1e-320
    assert min(values) <= found <= max(values)


def check(view: Snapshot, history: History, dice: random.Random) -> None:
    for _ in range(6):
        every = [point.step for points in history.points.values() for point in points] or [0]
        first, last = sorted((dice.choice(every) + dice.randint(-1, 1), dice.choice(every) + dice.randint(-1, 1)))
        if dice.random() < 0.3:
            first, last = 0, 2**63 - 1
        rows_max = dice.choice((1, 2, 10, 127, 128, 200, 1000, 10**6))
        at = dice.choice((None, OTHER, 9))
        tags = dice.sample(TAGS, dice.randint(1, 3))
        first, last = max(first, 0), min(last, 2**63 - 1)
        found = view.cells(1, 1, 1, tags, first_step=first, last_step=last, rows_max=rows_max, at=at)
        most = view.points_at_most(1, 1, 1, tags, first_step=first, last_step=last)
        assert found.keys() <= set(tags)
        for tag in tags:
            points = history.expected(tag, first, last)
            assert most.get(tag, 0) >= len(points)
            if at == 9:
                points = [replace(point, at=NOT_RECORDED) for point in points]
            assert_cells(found.get(tag), points, rows_max, at is not None)
    whole = view.points_at_most(1, 1, 1, TAGS)
    assert [whole.get(tag, 0) for tag in TAGS] == [len(history.points[tag]) for tag in TAGS]


@given_on_engines(60, elsewhere=6, seed=st.integers(0, 2**64))
def test_cells_are_the_points(stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    dice = random.Random(seed)
    chunk_rows, cell_rows = dice.choice(((8192, 128), (100, 10), (300, 128)))  # small ones, so that there are many
    with stores.opened(tmp_path_factory.mktemp("store")) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "CHUNK_ROWS", chunk_rows)
        patch.setattr(envelopes, "CELL_ROWS", cell_rows)
        history = History(store, dice)
        history.begin()
        for _ in range(dice.choice((5, 20, 60))):
            history.act()
        with store.snapshot() as view:
            check(view, history, dice)
            check_account(view, history)


def check_account(view: Snapshot, history: History) -> None:
    """Sent - pruned = stored, in scalars and in checksums; and blocks hold the same points as cells."""
    state = view.load("p/run")
    assert state is not None
    (attempt,) = state.counters["global_step"].attempts
    blocks = list(view.blocks(1, 1, 1))
    assert sum(block.values.size for block in blocks) == sum(map(len, history.points.values()))
    stored = sum(checksum(block) for block in blocks) % 2**64
    assert add(stored, attempt.pruned_checksum) == history.sent
    assert state.epoch == 0 or attempt.pruned_scalars > 0
    steps = sorted({point.step for points in history.points.values() for point in points})
    with history.store.transaction() as transaction:
        for step in {0, *steps[:5], *steps[-5:], 2**63 - 1}:
            wanted = max((s for s in steps if s < step), default=None)
            assert transaction.last_step_before(1, 1, 1, step) == wanted
