"""Schedules bound to a counter: read after the increment, reported once a step, and told of if nobody increments."""

import pytest

from tallyboard.counter import Counter
from tallyboard.errors import ConfigurationError
from tallyboard.schedules import exponential_decay, piecewise_constant
from tests.unit.client_kit import Recorded, recorded

DOUBLING = exponential_decay(0.1, 10, 2.0)
TABLE = piecewise_constant([5, 10, 15], [0.1, 0.05, 0.01, 0.001])


def counter(mine: Recorded, name: str = "global_step") -> Counter:
    return mine.run.counter(name)


def test_the_first_update_has_the_first_value() -> None:
    mine = recorded()
    step = counter(mine)
    rate = DOUBLING.bind(step)
    assert rate.value == 0.1, "before the first update it is f(0)"
    found = []
    for _ in range(10):
        step.increment()
        found.append(float(rate))
    assert found == [DOUBLING(n) for n in range(1, 11)]
    step.set(100)
    assert rate.value == DOUBLING(100)
    assert mine.rows() == [], "nothing is reported unless asked for"
    assert mine.ears.heard == []


def test_a_bound_schedule_goes_into_a_report_as_it_is() -> None:
    mine = recorded(strict=True)
    step = counter(mine)
    rate = TABLE.bind(step)
    for _ in range(12):
        step.increment()
        mine.log({"loss": 1.0, "lr": rate})
    assert [(at, scalars["lr"]) for _, at, scalars, _ in mine.rows()] == [(n, TABLE(n)) for n in range(1, 13)]


def test_with_log_each_step_is_reported_at_its_first_read() -> None:
    mine = recorded(strict=True)
    step = counter(mine, "D_global_step")
    rate = TABLE.bind(step, tag="D/learning_rate", log=True)
    assert rate.value == 0.1
    for _ in range(7):
        step.increment(by=2)
        for _ in range(3):
            assert rate.value == TABLE(step.value)
    assert mine.rows() == [("D_global_step", n, {"D/learning_rate": TABLE(n)}, {}) for n in range(2, 15, 2)]
    assert mine.ears.heard == []


def test_log_reports_the_value_where_the_counter_stands() -> None:
    mine = recorded(strict=True)
    step = counter(mine)
    rate = TABLE.bind(step)
    step.increment(by=5)
    rate.log()
    rate.log()
    step.increment()
    rate.log()
    found = [(at, scalars["learning_rate"]) for _, at, scalars, _ in mine.rows()]
    assert found == [(5, 0.1), (6, 0.05)], "once a step, however often it is asked for"


def test_after_a_rewind_a_step_is_reported_again() -> None:
    mine = recorded(strict=True)
    step = counter(mine)
    rate = TABLE.bind(step, log=True)
    step.increment(by=5)
    assert rate.value == 0.1
    mine.run.rewind({"global_step": 5})
    step.increment()
    assert rate.value == 0.1
    assert [(at, scalars) for _, at, scalars, _ in mine.rows()] == [(5, {"learning_rate": 0.1})] * 2


def test_a_counter_that_nobody_moves_is_told_of_once() -> None:
    mine = recorded()
    rate = TABLE.bind(counter(mine))
    for _ in range(10):
        assert rate.value == 0.1
    assert mine.ears.heard == []
    assert rate.value == 0.1
    assert len(mine.ears.heard) == 1
    for _ in range(100):
        assert rate.value == 0.1
    (said,) = mine.ears.heard
    assert "global_step has been 0 for 10 readings of learning_rate" in said
    assert 'run.counter("global_step").increment()' in said


def test_reading_a_counter_that_moves_often_is_no_mistake() -> None:
    mine = recorded()
    step = counter(mine)
    rate = TABLE.bind(step, log=True)
    for _ in range(3):
        step.increment()
        for _ in range(50):
            assert rate.value == 0.1
    assert mine.ears.heard == []


def test_a_counter_that_counts_reports_is_not_moved_by_logging() -> None:
    """Reports without a step count 1, 2, 3, … until someone increments; the schedule must not take part in that."""
    mine = recorded()
    rate = TABLE.bind(counter(mine), log=True)
    for reports in range(3):
        assert rate.value == 0.1
        assert len(mine.ears.heard) == min(reports, 1), "before the first report it may yet be incremented"
        mine.log({"loss": 1.0})
    rate.log()
    assert [(at, scalars) for _, at, scalars, _ in mine.rows()] == [(n, {"loss": 1.0}) for n in (1, 2, 3)]
    assert len(mine.ears.heard) == 1
    (said,) = mine.ears.heard
    assert "'learning_rate' is not reported: nobody has moved global_step" in said
    assert "test_schedules_bound.py" in said, "the line that reads it"


def test_it_says_what_it_is() -> None:
    mine = recorded()
    step = counter(mine)
    rate = TABLE.bind(step, log=True)
    step.increment(by=6)
    assert repr(rate) == (
        "<piecewise_constant(boundaries=(5, 10, 15), values=(0.1, 0.05, 0.01, 0.001)) on global_step at 6: 0.05>"
    )
    assert mine.rows() == []
    with pytest.raises(ConfigurationError, match="tag: "):
        TABLE.bind(step, tag="")
