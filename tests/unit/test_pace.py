"""How background work keeps out of the way: the pace of event files, and rests between pieces."""

import pytest

from tallyboard_server.breather import REST_RATIO, REST_S_MAX, WORK_S, Breather
from tallyboard_server.eventfiles.pace import INTERVAL_S_MAX, SHARE_LOW, SHARE_MAX, Pace


class Machine:
    """A clock that stands still but for what the test does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cpu = 0.0
        self.slept: list[float] = []

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.cpu += seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def seconds_of(pace: Pace, machine: Machine, share: float, count: int) -> list[float]:
    """The interval after each of so many seconds in which such a share was worked."""
    found = []
    for _ in range(count):
        machine.now += 1.001 - share
        with pace.working():
            machine.work(share)
        found.append(pace.interval_s)
    return found


def test_files_grow_less_often_while_that_takes_too_much_and_as_often_as_set_afterwards() -> None:
    machine = Machine()
    pace = Pace(1.0, lambda: machine.now, lambda: machine.cpu)
    assert seconds_of(pace, machine, SHARE_MAX + 0.1, 6) == [1.5, 2.25, 3.375, INTERVAL_S_MAX, 5.0, 5.0]
    assert seconds_of(pace, machine, (SHARE_LOW + SHARE_MAX) / 2, 3) == [5.0, 5.0, 5.0]
    assert seconds_of(pace, machine, SHARE_LOW / 2, 6)[-1] == 1.0


def test_an_interval_that_was_set_longer_stays() -> None:
    machine = Machine()
    pace = Pace(30.0, lambda: machine.now, lambda: machine.cpu)
    assert seconds_of(pace, machine, 0.9, 3) == [30.0] * 3
    assert seconds_of(pace, machine, 0.0, 3) == [30.0] * 3


def test_waiting_is_no_work() -> None:
    machine = Machine()
    pace = Pace(1.0, lambda: machine.now, lambda: machine.cpu)
    with pace.working():
        machine.now += 10.0
    assert pace.interval_s == 1.0


def test_rests_follow_the_work() -> None:
    machine = Machine()
    breather = Breather(lambda: machine.now, machine.sleep)
    machine.work(WORK_S / 2)
    breather.rest()
    assert machine.slept == []
    machine.work(WORK_S)
    breather.rest()
    assert machine.slept == [pytest.approx(REST_RATIO * 1.5 * WORK_S)]
    machine.work(1.0)
    breather.rest()
    assert machine.slept[-1] == REST_S_MAX
    machine.now += 1.0
    breather.begin()
    breather.rest()
    assert len(machine.slept) == 2
