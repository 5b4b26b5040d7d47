"""Points read from a real store, merged here and there, are the visible points of the brute-force model."""

import bisect
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.wire import Batch
from tallyboard_server.contract import Outcome
from tallyboard_server.model import RunState
from tallyboard_server.series import Points, PointsTooManyError, UnknownAxisError, read_points
from tallyboard_server.store.sqlite import SqliteStore
from tests.property.contract_model import Model, Point, bits_of
from tests.property.test_contract_history import WRITERS, Machine, likely_act, usual_bounds


class StoredMachine(Machine):
    """The machine of the contract's tests, with everything it accepts kept in a store."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(usual_bounds())
        self.store = store
        self.outcome: Outcome | None = None

    def _apply(self, batch: Batch, stored: dict[Any, Point]) -> Any:
        result = super()._apply(batch, stored)
        if isinstance(result, Outcome) and not result.replayed:
            with self.store.transaction() as transaction:
                transaction.save(result.state, result.blocks, result.refused)
        return result

    def merge(self, dice: random.Random) -> None:
        """Merge some of what is there."""
        up_to = dice.randint(0, self.state.pos)
        with self.store.snapshot() as view:
            places = view.mergeable(self.state.id, up_to_pos=up_to, min_blocks=dice.choice([1, 3]))
            sources = [
                view.whole_batches(self.state.id, *place, up_to_pos=up_to, rows_max=dice.choice([1, 5, 100]))
                for place in places
            ]
        for blocks in filter(None, sources):
            merge = self.store.prepare_merge(self.state.id, blocks)
            with self.store.transaction() as transaction:
                transaction.merge(merge)


def visible(model: Model, tag: str) -> list[tuple[int, Point]]:
    return sorted(((key[3], model.points[key]) for key in model.visible() if key[2] == tag), key=lambda item: item[0])


def running_max(numbers: list[Any]) -> list[Any]:
    return [max(numbers[: i + 1]) for i in range(len(numbers))]


def along(model: Model, counter: str, points: list[tuple[int, Point]], x: str) -> list[Any]:
    """The x axis of a tag's visible points, by the definition."""
    if x in ("step", counter):
        return [step for step, _ in points]
    walls = running_max([point.wall_time for _, point in points])
    if x == "wall_time":
        return walls
    if x == "relative":
        return [wall - walls[0] for wall in walls]
    rows = {(key[1], key[3], point.wall_time) for key, point in model.points.items()
            if key[0] == x and key in model.visible()}  # fmt: skip
    ordered = sorted(rows, key=lambda row: (row[2], row[1]))
    times, reached = [row[2] for row in ordered], running_max([row[1] for row in ordered])
    found = []
    for _, point in points:
        before = bisect.bisect_right(times, point.wall_time)
        found.append(point.at.get(x, reached[before - 1] if before else 0))
    return running_max(found)


def check(found: Points, model: Model, tag: str, x: str, low: float | None, high: float | None) -> None:
    points = visible(model, tag)
    xs = along(model, found.counter, points, x)
    kept = [
        (step, point.wall_time, point.bits, at)
        for (step, point), at in zip(points, xs, strict=True)
        if (low is None or at >= low) and (high is None or at <= high)
    ]
    got = zip(
        found.steps.tolist(),
        found.wall_times.tolist(),
        map(bits_of, found.values.tolist()),
        found.x.tolist(),
        strict=True,
    )
    assert list(got) == kept
    assert (np.diff(found.x.astype(np.float64)) >= 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_what_is_read_is_what_is_visible(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    dice = random.Random(seed)
    store = SqliteStore.open(tmp_path_factory.mktemp("store"))
    try:
        machine = StoredMachine(store)
        with store.transaction() as transaction:
            transaction.save(machine.state)
        for _ in range(25):
            machine.play(likely_act(dice, dice.choice(WRITERS[:1] * 6 + WRITERS)))
            if dice.random() < 0.2:
                machine.merge(dice)
        with store.snapshot() as view:
            state = view.load(machine.state.name)
            assert state is not None
            for tag in machine.model.tags:
                check_tag(view, state, machine.model, tag, dice)
    finally:
        store.close()


def check_tag(view: Any, state: RunState, model: Model, tag: str, dice: random.Random) -> None:
    owner = model.owner(tag)
    if owner is None:
        assert read_points(view, state, tag) is None
        return
    counters = [name for name in state.counters if state.counters[name].attempts]
    for x in ("step", "wall_time", "relative", *counters):
        whole = read_points(view, state, tag, x=x)
        assert whole is not None
        assert whole.counter == owner
        check(whole, model, tag, x, None, None)
        low, high = sorted(float(dice.choice(whole.x.tolist())) for _ in range(2))
        if max(abs(low), abs(high)) < 2**53:
            part = read_points(view, state, tag, x=x, first=low, last=high)
            assert part is not None
            check(part, model, tag, x, low, high)


@settings(max_examples=1)
@given(seed=st.just(3))
def test_a_wrong_axis_and_too_many_points_are_refused(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    store = SqliteStore.open(tmp_path_factory.mktemp("store"))
    machine = StoredMachine(store)
    with store.transaction() as transaction:
        transaction.save(machine.state)
    dice = random.Random(seed)
    while not (machine.model.tags and len(visible(machine.model, machine.model.tags[0])) > 3):
        machine.play(likely_act(dice, dice.choice(WRITERS[:1] * 6 + WRITERS)))
    tag = machine.model.tags[0]
    with store.snapshot() as view:
        with pytest.raises(UnknownAxisError, match="the axes of project/run are step"):
            read_points(view, machine.state, tag, x="tokens")
        with pytest.raises(PointsTooManyError, match="from="):
            read_points(view, machine.state, tag, points_max=2)
        assert read_points(view, machine.state, "never/seen") is None
    store.close()


def test_bits_of_tells_zeros_apart() -> None:
    assert bits_of(0.0) != bits_of(-0.0)
    assert bits_of(struct.unpack("<d", struct.pack("<q", 5))[0]) == 5
