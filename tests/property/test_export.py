"""Exports of made-up histories, merged here and there, hold exactly the points of the brute-force model."""

import random
import struct
from collections.abc import Iterator
from fnmatch import fnmatchcase

import numpy as np
import pytest
from hypothesis import strategies as st

from tallyboard_server.export import FORMATS, Export, Wanted, pages
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Store
from tests.examples import given_on_engines
from tests.export_kit import Row, bits_of, event_points, export, frames, rows
from tests.property.contract_model import Key, Model, Point
from tests.property.series_kit import StoredMachine
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

TEXT = ("csv", "jsonl", "parquet")


def value_of(point: Point) -> float:
    return float(struct.unpack("<d", struct.pack("<q", point.bits))[0])


def row(model: Model, key: Key, *, told: bool) -> Row:
    counter, attempt, tag, step = key
    point = model.points[key]
    superseded = key not in model.visible()
    bits = bits_of(value_of(point))
    return Row(counter, attempt if told else 0, told and superseded, tag, step, point.wall_time, bits)


def expected(model: Model, state: RunState, wanted: Wanted, *, told: bool) -> list[Row]:
    """In the order that the API promises: counters as created, attempts, visible ones first, steps, tags."""
    counters = list(state.counters)
    visible = model.visible()
    keys = [
        key
        for key in model.points
        if (wanted.superseded or key in visible)
        and (not wanted.tags or any(fnmatchcase(key[2], pattern) for pattern in wanted.tags))
    ]
    keys.sort(key=lambda key: (counters.index(key[0]), key[1], key not in visible, key[3], key[2]))
    return [row(model, key, told=told) for key in keys]


def check(store: Store, state: RunState, model: Model, wanted: Wanted) -> None:
    for form in TEXT:
        assert rows(form, export(store, state, form, wanted)) == expected(
            model, state, wanted, told=wanted.superseded
        ), form
    found = export(store, state, "msgpack", wanted)
    assert sorted(rows("msgpack", found)) == sorted(expected(model, state, wanted, told=True))
    assert frames(found)[0]["run"] == state.name
    if not wanted.superseded:
        check_event_file(store, state, model, wanted)


def check_event_file(store: Store, state: RunState, model: Model, wanted: Wanted) -> None:
    found = event_points(export(store, state, "tfevents", wanted))
    points = [(r.tag, r.step, r.wall_time, r.bits) for r in expected(model, state, wanted, told=False)]
    with np.errstate(all="ignore"):
        values = [float(np.float32(struct.unpack("<d", struct.pack("<q", bits))[0])) for *_, bits in points]
    floats = [(tag, step, wall, bits_of(v)) for (tag, step, wall, _), v in zip(points, values, strict=True)]
    assert sorted((tag, step, wall, bits_of(v)) for tag, step, wall, v in found) == sorted(floats)
    for counter in state.counters:
        own = {r.tag for r in expected(model, state, wanted, told=False) if r.counter == counter}
        steps = [step for tag, step, *_ in found if tag in own]
        assert steps == sorted(steps)


def machine_with_a_history(store: Store, dice: random.Random, acts: int = 25) -> StoredMachine:
    machine = StoredMachine(store, dice)
    play(machine, acts)
    return machine


def play(machine: StoredMachine, acts: int) -> None:
    for _ in range(acts):
        machine.act()


@given_on_engines(15, elsewhere=2, seed=st.integers(0, 2**64), small=st.booleans())
def test_every_format_holds_what_the_model_holds(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int, small: bool
) -> None:
    """small: pages of one block, and tags read by themselves even if they are few."""
    dice = random.Random(seed)
    with stores.opened(tmp_path_factory.mktemp("store")) as store, pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(pages, "PAGE_BYTES", 1)
        machine = machine_with_a_history(store, dice)
        tags = tuple(dice.sample(machine.model.tags, min(len(machine.model.tags), 2)))
        for superseded in (False, True):
            check(store, machine.state, machine.model, Wanted(superseded=superseded))
            check(store, machine.state, machine.model, Wanted(tags, superseded))
            patch.setattr(pages, "_FEW", 1)
            check(store, machine.state, machine.model, Wanted(tags, superseded))
            patch.setattr(pages, "_FEW", 4)


@given_on_engines(10, elsewhere=4, seed=st.integers(0, 2**64), at_once=st.sampled_from([1, 2]))
def test_runs_with_very_many_tags_are_read_some_tags_at_a_time(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int, at_once: int
) -> None:
    dice = random.Random(seed)
    with stores.opened(tmp_path_factory.mktemp("store")) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "TAGS_AT_ONCE", at_once)
        patch.setattr(pages, "SCALARS_AT_ONCE", 0)
        machine = machine_with_a_history(store, dice)
        for superseded in (False, True):
            wanted = Wanted(superseded=superseded)
            then = expected(machine.model, machine.state, wanted, told=True)
            found = rows("msgpack", export(store, machine.state, "msgpack", wanted))
            assert sorted(found) == sorted(then)
            for tag in machine.model.tags:
                own = [row for row in found if row.tag == tag]
                assert own == [row for row in then if row.tag == tag]


@given_on_engines(15, elsewhere=2, seed=st.integers(0, 2**64))
def test_an_export_is_of_the_moment_it_began(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Reports, rewinds and merges between its pages change nothing."""
    dice = random.Random(seed)
    with stores.opened(tmp_path_factory.mktemp("store")) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_BYTES", 1)
        machine = machine_with_a_history(store, dice)
        state = machine.state
        for wanted in (Wanted(), Wanted(superseded=True)):
            state = machine.state
            then = expected(machine.model, state, wanted, told=wanted.superseded)
            found = b""
            for piece in pieces_of(store, state, wanted):
                found += piece
                play(machine, 1)
            assert rows("jsonl", found) == then


def pieces_of(store: Store, state: RunState, wanted: Wanted) -> Iterator[bytes]:
    return Export(store, state, FORMATS["jsonl"], wanted).pieces()
