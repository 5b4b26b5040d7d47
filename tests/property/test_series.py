"""Points and buckets read from a real store, merged here and there, are those of the brute-force model."""

import math
import random
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import event
from hypothesis import strategies as st

from tallyboard_server.series import (
    Allowance,
    Line,
    PointsTooManyError,
    Question,
    RunReader,
    Source,
    UnknownAxisError,
    read_lines,
    read_points,
)
from tallyboard_server.series.lines import Levels
from tallyboard_server.store.envelope import NOWHERE, Marks
from tests.examples import given_on_engines
from tests.property.contract_model import bits_of
from tests.property.series_kit import Curve, CutAtRandom, StoredMachine, curve, superseded_curve
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

MANY = 10**9


def value_of(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


def check(line: Line, expected: Curve, buckets: int | None) -> None:
    """A line shows exactly these points, or buckets of them."""
    assert line.count == len(expected)
    assert line.merged == (buckets is not None and len(expected) > buckets)
    assert line.last_step == (expected[-1][0] if expected else -1)
    if buckets is not None:
        assert len(line.cells) <= max(buckets, 0 if line.merged else len(expected))
    if not line.merged:
        assert (line.cells.count == 1).all()
    begin = 0
    for i, count in enumerate(line.cells.count.tolist()):
        points = expected[begin : begin + count]
        begin += count
        check_mark(line.cells.first, line.x.first, i, points[0])
        check_mark(line.cells.last, line.x.last, i, points[-1])
        values = [value_of(point.bits) for _, point, _ in points]
        finite = [value for value in values if math.isfinite(value)]
        assert line.cells.nonfinite[i] == count - len(finite)
        if not finite:
            assert line.cells.min.steps[i] == line.cells.max.steps[i] == NOWHERE
            assert math.isnan(line.cells.mean[i])
            continue
        check_mark(line.cells.min, line.x.min, i, points[values.index(min(finite))])
        check_mark(line.cells.max, line.x.max, i, points[values.index(max(finite))])
        mean = float(sum(map(Fraction, finite)) / len(finite))
        assert math.isclose(line.cells.mean[i], mean, rel_tol=1e-12, abs_tol=1e-12 * max(map(abs, finite)))
    assert begin == len(expected)
    assert (np.diff(line.x.first) >= 0).all()


def check_mark(marks: Marks, x: Any, i: int, expected: tuple[int, Any, Any]) -> None:
    step, point, place = expected
    found = (int(marks.steps[i]), float(marks.wall_times[i]), bits_of(float(marks.values[i])), x[i].item())
    assert found == (step, point.wall_time, point.bits, place)


def within(points: Curve, low: float | None, high: float | None) -> Curve:
    return [p for p in points if (low is None or p[2] >= low) and (high is None or p[2] <= high)]


@given_on_engines(40, elsewhere=3, seed=st.integers(0, 2**64))
def test_what_is_read_is_what_is_there(stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    dice = random.Random(seed)
    with stores.opened(tmp_path_factory.mktemp("store")) as store:
        machine = StoredMachine(store, dice)
        for _ in range(25):
            machine.act()
        with store.snapshot() as view:
            for source in (view, CutAtRandom(view, dice)):
                check_run(source, machine, dice)
        with RunReader(store.snapshot, hold_s=dice.choice((-1.0, None))) as reader:
            assert reader.load(machine.state.name) is not None
            check_run(reader, machine, dice)


def check_run(source: Source, machine: StoredMachine, dice: random.Random) -> None:
    state, model = machine.state, machine.model
    counters = [name for name in state.counters if state.counters[name].attempts]
    for x in ("step", "wall_time", "relative", *counters):
        asked = random_question(machine, x, dice)
        levels = Levels((dice.choice((4, 20)), dice.choice((2, 3))), cells_max=dice.choice((0, 1, 10)))
        found = read_lines(source, state, sorted(model.tags), asked, Allowance(MANY), levels=levels)
        for tag in sorted(model.tags):
            lines = [line for line in found if line.tag == tag]
            visible = [line for line in lines if line.superseded is None]
            owner = model.owner(tag)
            assert [line.counter for line in visible] == [owner] * (owner is not None)
            for line in visible:
                event(f"{'buckets' if line.merged else 'points'} along {line.x_source} x")
                check(line, within(curve(model, tag, line.counter, x), asked.first, asked.last), asked.buckets)
            if asked.superseded:
                check_superseded(machine, tag, lines, asked)


def check_superseded(machine: StoredMachine, tag: str, lines: list[Line], asked: Question) -> None:
    found = {(line.counter, line.superseded): line for line in lines if line.superseded is not None}
    assert len(found) == sum(line.superseded is not None for line in lines)
    for counter, attempts in machine.model.counters.items():
        for number in range(1, len(attempts) + 1):
            points = superseded_curve(machine.model, tag, counter, number, asked.x)
            points = within(points, asked.first, asked.last)
            assert ((counter, number) in found) == bool(points)
            if points:
                event("a superseded line")
                check(found.pop((counter, number)), points, asked.buckets)
    assert not found


def random_question(machine: StoredMachine, x: str, dice: random.Random) -> Question:
    """Bounds are places that occur, or lie between; beyond 2^53 only whole ones say what they mean."""
    owned = [(tag, owner) for tag in machine.model.tags if (owner := machine.model.owner(tag)) is not None]
    places = [place for tag, owner in owned for _, _, place in curve(machine.model, tag, owner, x)]
    low, high = None, None
    if places and dice.random() < 0.6:
        low, high = sorted(dice.choice(places) for _ in range(2))
        if isinstance(low, float) or high < 2**50:
            low, high = low - dice.choice((0, 0.5)), high + dice.choice((0, 0.25))
        low, high = dice.choice(((low, high), (low, None), (None, high), (high, low)))
    buckets = dice.choice((None, 1, 2, 3, 7, 10_000))
    return Question(x, low, high, buckets, superseded=dice.random() < 0.5)


@given_on_engines(1, elsewhere=1, seed=st.just(3))
def test_a_wrong_axis_and_too_many_points_are_refused(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    with stores.opened(tmp_path_factory.mktemp("store")) as store:
        machine = StoredMachine(store, random.Random(seed))
        while not (machine.model.tags and (owner := machine.model.owner(machine.model.tags[0])) and
                   len(curve(machine.model, machine.model.tags[0], owner, "step")) > 3):  # fmt: skip
            machine.act()
        tag = machine.model.tags[0]
        with store.snapshot() as view:
            with pytest.raises(UnknownAxisError, match="the axes of project/run are step"):
                read_points(view, machine.state, tag, x="tokens")
            with pytest.raises(PointsTooManyError, match="from="):
                read_points(view, machine.state, tag, points_max=2)
            assert read_points(view, machine.state, "never/seen") is None


def test_bits_of_tells_zeros_apart() -> None:
    assert bits_of(0.0) != bits_of(-0.0)
    assert bits_of(struct.unpack("<d", struct.pack("<q", 5))[0]) == 5
