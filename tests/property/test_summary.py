"""Figures of tags, and values where another tag is best, against the visible points of the brute-force model."""

import math
import random
import struct
from typing import Any

import pytest
from hypothesis import strategies as st

from tallyboard_server.model import RunState
from tallyboard_server.runtable import Column
from tallyboard_server.runtable.columns import FIGURES
from tallyboard_server.runtable.reading import read_values
from tests.examples import given_on_engines
from tests.property.contract_model import Model
from tests.property.series_kit import CutAtRandom, StoredMachine, curve
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

Points = list[tuple[int, float, float]]
"""(step, wall time, value), ascending by step."""


def visible(model: Model, tag: str) -> Points:
    """A tag's visible points, wherever they are."""
    owner = model.owner(tag)
    if owner is None:
        return []
    return [
        (step, point.wall_time, struct.unpack("<d", struct.pack("<q", point.bits))[0])
        for step, point, _ in curve(model, tag, owner, "step")
    ]


def best(points: Points, kind: str) -> tuple[int, float, float] | None:
    """The point with the least or greatest finite value, the first of equals."""
    finite = [point for point in points if math.isfinite(point[2])]
    if not finite:
        return None
    return min(finite, key=lambda p: p[2]) if kind == "min" else max(finite, key=lambda p: p[2])


def figure(points: Points, name: str) -> Any:
    """What a column of FIGURES is, by its definition."""
    kind, _, part = name.partition("_")
    finite = [value for _, _, value in points if math.isfinite(value)]
    if not points:
        return None
    if name == "count":
        return len(points)
    if name == "nonfinite":
        return len(points) - len(finite)
    if name == "mean":
        return math.fsum(finite) / len(finite) if finite else None
    chosen = {"first": points[0], "last": points[-1]}.get(kind) or best(points, kind)
    return None if chosen is None else chosen[{"step": 0, "time": 1, "": 2}[part]]


def at_best(model: Model, kind: str, tag: str, by: str) -> Any:
    """The value of one tag where another is best, by the definition."""
    points, chosen = visible(model, tag), best(visible(model, by), kind)
    if chosen is None or not points:
        return None
    if model.owner(tag) == model.owner(by):
        before = [point for point in points if point[0] <= chosen[0]]
    else:
        before = []
        for point in points:
            if point[1] > chosen[1]:
                break
            before.append(point)
    return before[-1][2] if before else None


def check(found: Any, wanted: Any, where: Any) -> None:
    if isinstance(wanted, float) and math.isnan(wanted):
        assert math.isnan(found), where
    elif where[0].startswith("mean") and wanted is not None:
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12), where
    else:
        assert found == wanted, where


@given_on_engines(40, elsewhere=4, seed=st.integers(0, 2**64))
def test_every_figure_is_of_the_visible_points(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    dice = random.Random(seed)
    with stores.opened(tmp_path_factory.mktemp("store")) as store:
        machine = StoredMachine(store, dice)
        for _ in range(25):
            machine.act()
        with store.snapshot() as view:
            state = view.load(machine.state.name)
            assert state is not None
            check_tags(CutAtRandom(view, dice), state, machine.model, dice)


def check_tags(view: Any, state: RunState, model: Model, dice: random.Random) -> None:
    names = [*model.tags, "never/seen"]
    columns = [Column(figure, (tag,)) for tag in names for figure in FIGURES]
    columns += [
        Column(f"at_{kind}", (dice.choice(names), dice.choice(names))) for kind in ("min", "max") for _ in names
    ]
    values = read_values(view, state, columns)
    assert list(values) == list(dict.fromkeys(column.text for column in columns))
    for column in columns:
        if column.kind in FIGURES:
            wanted = figure(visible(model, column.arguments[0]), column.kind)
        else:
            wanted = at_best(model, column.kind.removeprefix("at_"), *column.arguments)
        check(values[column.text], wanted, (column.text, model.tags))
