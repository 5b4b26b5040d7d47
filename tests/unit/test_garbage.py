"""Cyclic garbage: short collections, and nothing kept for good."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from tallyboard_server.cli.garbage import LOOK_AT_ALL_EVERY_S, YOUNG_MAX, Garbage


class Node:
    """One end of a cycle."""

    other: "Node"


def cycle() -> tuple[Node, "weakref.ref[Node]"]:
    one, two = Node(), Node()
    one.other, two.other = two, one
    return one, weakref.ref(one)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def garbage() -> Iterator[tuple[Garbage, Clock]]:
    before = gc.get_threshold()
    clock = Clock()
    made = Garbage(clock)
    made.start()
    yield made, clock
    made.stop()
    gc.set_threshold(*before)


def test_what_is_there_is_looked_at_no_more(garbage: tuple[Garbage, Clock]) -> None:
    assert gc.get_threshold()[0] == YOUNG_MAX
    assert gc.get_freeze_count() > 10_000
    left = len(gc.get_objects())
    assert left < gc.get_freeze_count() / 10
    kept = [cycle() for _ in range(100)]
    garbage[0].turn()
    assert len(gc.get_objects()) < left + 100
    assert all(seen() is one for one, seen in kept)


def test_garbage_is_not_frozen(garbage: tuple[Garbage, Clock]) -> None:
    one, seen = cycle()
    del one
    garbage[0].turn()
    assert seen() is None


def test_what_becomes_garbage_while_it_is_frozen_goes_within_the_hour(garbage: tuple[Garbage, Clock]) -> None:
    keeper, clock = garbage
    one, seen = cycle()
    keeper.turn()
    del one
    gc.collect()
    keeper.turn()
    assert seen() is not None
    clock.now += LOOK_AT_ALL_EVERY_S
    keeper.turn()
    assert seen() is None


def test_it_ends_with_nothing_frozen() -> None:
    before = gc.get_threshold()
    made = Garbage(Clock())
    made.start()
    made.stop()
    gc.set_threshold(*before)
    assert gc.get_freeze_count() == 0
