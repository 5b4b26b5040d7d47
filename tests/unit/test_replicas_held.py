"""What a replica may work on: for how long it may be sure of that, and when it may give it away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tallyboard_server.replicas import HeldShares
from tallyboard_server.shares import EVERYTHING, SHARES
from tests.eventfiles_kit import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held(clock: Clock) -> HeldShares:
    made = HeldShares(clock)
    made.begin("first")
    made.take_over([3, 5])
    made.extend(clock() + 4.0)
    return made


@contextmanager
def a_turn_elsewhere(held: HeldShares) -> Iterator[None]:
    """Another thread is in a turn of work as long as the block."""
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        with held.working():
            begun.set()
            assert end.wait(10.0)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10.0)
    try:
        yield
    finally:
        end.set()
        thread.join(10.0)


def test_nothing_is_held_before_the_database_said_so() -> None:
    made = HeldShares()
    assert not any(made.has(run_id) for run_id in range(SHARES))


def test_runs_fall_into_shares_by_their_ids(held: HeldShares) -> None:
    assert [run_id for run_id in range(2 * SHARES) if held.has(run_id)] == [3, 5, SHARES + 3, SHARES + 5]


def test_what_is_held_lapses_by_the_clock_and_comes_back(held: HeldShares, clock: Clock) -> None:
    sure = held.version
    clock.now += 3.99
    assert held.has(3)
    assert held.version == sure
    clock.now += 0.01
    assert not held.has(3)
    assert held.version != sure
    held.extend(clock() + 4.0)  # nobody had it in between: it is the same life
    assert held.has(3)
    assert held.version == sure


def test_each_change_is_another_version(held: HeldShares) -> None:
    versions = [held.version]
    for shares in ([3, 5, 7], [3, 5], [3, 5, 7]):
        held.take_over(shares)
        versions.append(held.version)
    assert len(set(versions)) == len(versions)
    held.take_over([7, 5, 3])
    assert held.version == versions[-1]


def test_a_share_is_let_go_when_the_turns_that_may_work_on_it_are_over(held: HeldShares) -> None:
    with a_turn_elsewhere(held):
        held.take_over([5])
        assert not held.has(3)  # nothing new is begun
        assert not held.is_let_go(3)
        with a_turn_elsewhere(held):
            pass
        assert not held.is_let_go(3)
    with a_turn_elsewhere(held):  # begun after it was let go: it can't work on it
        assert held.is_let_go(3)
    assert not held.is_let_go(5)


def test_a_share_that_is_wanted_again_before_it_is_let_go_stays(held: HeldShares) -> None:
    with a_turn_elsewhere(held):
        held.take_over([5])
        held.take_over([3, 5])
        assert held.has(3)
        assert not held.is_let_go(3)
    assert not held.is_let_go(3)


def test_a_turn_of_a_former_life_has_nothing_though_the_share_came_back(held: HeldShares, clock: Clock) -> None:
    """As of a process that was stopped in the middle of a turn, for longer than it counts as alive."""
    with held.working():
        assert held.has(3)
        clock.now += 60.0
        held.begin("second")
        held.take_over([3, 5])
        held.extend(clock() + 4.0)
        assert not held.has(3)
        assert held.life == "first"
    assert held.has(3)
    assert held.life == "second"
    with held.working():
        assert held.has(3)


def test_a_turn_that_fails_is_over(held: HeldShares) -> None:
    with pytest.raises(ZeroDivisionError), held.working():
        raise ZeroDivisionError
    held.take_over([])
    assert held.is_let_go(3)


def test_whoever_is_alone_has_everything() -> None:
    with EVERYTHING.working():
        assert all(EVERYTHING.has(run_id) for run_id in range(2 * SHARES))
    assert EVERYTHING.version == EVERYTHING.version
