"""Counters of a run that is continued: where they stand, and what is said when that can't be right."""

import pytest

from tallyboard.errors import StepDecreasedError
from tallyboard.wire import CounterValue
from tests.unit.client_kit import Recorded, recorded


def resumed(last_step: int | None = 1000, *, strict: bool = False) -> Recorded:
    """A recorder whose server has said that global_step stands there."""
    mine = recorded(resumed=True, strict=strict)
    assert mine.recorder.adopt({"global_step": CounterValue(last_step, 1)}) == []
    return mine


def test_it_goes_on_where_the_server_has_it() -> None:
    mine = resumed(strict=True)
    counter = mine.run.counter()
    assert counter.value == 1000
    assert counter.increment() == 1001
    counter.log({"loss": 1.0})
    assert [(name, step) for name, step, _, _ in mine.rows()] == [("global_step", 1001)]
    assert mine.ears.heard == []


def test_behind_the_server_a_strict_run_raises_on_the_line() -> None:
    mine = resumed(strict=True)
    counter = mine.run.counter()
    with pytest.raises(StepDecreasedError, match="ahead of this job's checkpoint"):
        counter.set(900)
    assert counter.value == 1000
    with pytest.raises(StepDecreasedError):
        counter.increment(by=-1)


def test_behind_the_server_increment_warns_once_per_line_and_reports_are_refused() -> None:
    mine = resumed()
    counter = mine.run.counter()
    counter.set(900)
    for _ in range(5):
        counter.increment()
        counter.log({"loss": 1.0})
    assert counter.value == 905
    behind = [said for said in mine.ears.heard if "ahead of this job's checkpoint" in said]
    assert len(behind) == 2  # the set, and the increment
    assert 'next_steps={"global_step": 900}' in behind[0]
    assert mine.tally.stats().violations == 5


@pytest.mark.parametrize("way_out", ["rewind", "load_state_dict"])
def test_the_ways_out_that_it_names_work(way_out: str) -> None:
    mine = resumed(strict=True)
    counter = mine.run.counter()
    if way_out == "rewind":
        mine.run.rewind({"global_step": 901})
    else:
        mine.run.load_state_dict({"global_step": {"value": 900, "next_step": 901, "moved": True}})
    assert counter.increment() == 901
    counter.log({"loss": 1.0})
    assert mine.ears.heard == []


def test_a_set_to_where_the_server_is_or_beyond_is_fine() -> None:
    mine = resumed(strict=True)
    mine.run.counter().set(1000)
    mine.run.counter().set(1200)
    mine.run.log({"loss": 1.0})
    assert mine.ears.heard == []


def test_a_rewind_to_the_very_beginning_is_not_undone_by_what_the_server_says() -> None:
    mine = recorded(resumed=True, strict=True)
    mine.run.rewind({"global_step": 0})
    assert mine.recorder.adopt({"global_step": CounterValue(1000, 1)}) == []
    assert mine.run.counter().value == 0
    mine.run.log({"loss": 1.0}, 0)


def test_counting_before_the_server_has_said_where_warns_once() -> None:
    mine = recorded(resumed=True)
    for _ in range(3):
        mine.run.counter().increment()
    mine.log({"val": 1.0}, counter="epoch")
    assert [said.split()[0] for said in mine.ears.heard] == ["global_step", "epoch"]
    stands = {"global_step": CounterValue(10, 1), "epoch": CounterValue(2, 1), "eval": CounterValue(3, 1)}
    assert mine.recorder.adopt(stands) == ["global_step", "epoch"]
    assert mine.run.counter("eval").value == 3


def test_a_set_made_before_the_server_has_said_where_is_held_against_it_afterwards() -> None:
    mine = recorded(resumed=True)
    mine.run.counter().set(900)
    assert mine.ears.heard == []
    assert mine.recorder.adopt({"global_step": CounterValue(1000, 1)}) == []
    mine.run.counter().increment()
    assert "ahead of this job's checkpoint" in mine.ears.heard[0]


def test_a_run_that_is_new_says_nothing_of_all_this() -> None:
    mine = recorded(strict=True)
    mine.run.counter().set(5)
    mine.run.counter().set(3)
    mine.run.counter().increment()
    assert mine.ears.heard == []
