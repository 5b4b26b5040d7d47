"""Schedules: the published tables, values that are frozen, and errors that say what would do."""

import copy
import dataclasses
import math
import pickle  # noqa: TID251 - that schedules may go into checkpoints is what is tested
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallyboard import schedules
from tallyboard.errors import ConfigurationError
from tallyboard.schedules import (
    Schedule,
    cosine_decay,
    cosine_decay_restarts,
    exponential_decay,
    inverse_time_decay,
    linear_cosine_decay,
    natural_exp_decay,
    piecewise_constant,
    polynomial_decay,
)

ONE_OF_EACH: list[Schedule] = [
    exponential_decay(0.1, 10, 2.0),
    exponential_decay(0.1, 10, 0.5, staircase=True),
    natural_exp_decay(0.1, 10, 0.5),
    inverse_time_decay(0.1, 10, 0.5),
    polynomial_decay(0.1, 10, cycle=True),
    piecewise_constant([5, 10, 15], [0.1, 0.05, 0.01, 0.001]),
    cosine_decay(0.1, 10),
    cosine_decay_restarts(0.1, 10),
    linear_cosine_decay(0.1, 10),
]
each = pytest.mark.parametrize("schedule", ONE_OF_EACH, ids=repr)


def test_the_doubling_rate_is_as_published() -> None:
    rate = exponential_decay(0.1, decay_steps=10, decay_rate=2.0)
    published = [0.107177, 0.114870, 0.123114, 0.131951, 0.141421, 0.151572, 0.162450, 0.174110, 0.186607, 0.2]
    assert [round(rate(step), 6) for step in range(1, 11)] == published
    assert [rate(step) for step in (0, 10, 20, 100)] == [0.1, 0.2, 0.4, 0.1 * 2**10]


def test_constants_change_after_their_boundary() -> None:
    rate = piecewise_constant([5, 10, 15], [0.1, 0.05, 0.01, 0.001])
    assert [rate(step) for step in range(1, 20)] == [0.1] * 5 + [0.05] * 5 + [0.01] * 5 + [0.001] * 4
    assert rate(0) == 0.1
    assert rate(2**63 - 1) == 0.001
    assert piecewise_constant([], [0.5])(7) == 0.5


def test_ends_stay_where_they_are() -> None:
    assert polynomial_decay(0.1, 10, 0.01)(10) == polynomial_decay(0.1, 10, 0.01)(10**9) == 0.01
    assert cosine_decay(0.1, 10)(10) == cosine_decay(0.1, 10)(10**9) == 0.0
    assert cosine_decay(0.5, 10, alpha=0.25)(11) == 0.125
    assert linear_cosine_decay(0.5, 10, beta=0.25)(10**9) == 0.125


def test_cycles_and_restarts_begin_where_they_should() -> None:
    cycle = polynomial_decay(1.0, 10, 0.0, cycle=True)
    assert [cycle(step) for step in (0, 5, 10, 11, 20, 21, 30)] == [1.0, 0.5, 0.0, 1 - 11 / 20, 0.0, 1 - 21 / 30, 0.0]
    restarts = cosine_decay_restarts(1.0, 10, t_mul=2.0, m_mul=0.5)
    assert [restarts(step) for step in (0, 5, 10, 20, 30, 50, 70)] == [1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@pytest.mark.parametrize("t_mul", [1.0, 2.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("first", [7, 10**12])
def test_every_restart_is_at_its_exact_step(t_mul: float, first: int) -> None:
    """By the rounded logarithm alone some would come a step late, or a step early where a period is long."""
    restarts = cosine_decay_restarts(1.0, first, t_mul=t_mul)
    begin = first
    for number in range(1, 6):
        assert restarts(begin) == 1.0
        assert restarts(begin - 1) < 0.1
        begin += int(first * t_mul**number)


def test_what_is_too_large_for_a_float_is_infinite() -> None:
    assert exponential_decay(0.1, 1, 2.0)(5000) == math.inf
    assert natural_exp_decay(-0.1, 1, -1.0)(5000) == -math.inf
    assert exponential_decay(0.1, 1, 0.5)(5000) == 0.0


@each
def test_arrays_give_what_their_steps_give(schedule: Schedule) -> None:
    steps = np.arange(120).reshape(4, 5, 6)
    found = schedule(steps)
    assert found.dtype == np.float64
    assert found.shape == steps.shape
    assert found.ravel().tolist() == [schedule(step) for step in range(120)]
    for same in (steps.astype(np.uint8), steps.astype(np.float32), steps[::-1][::-1]):
        assert np.array_equal(schedule(same), found)
    assert schedule(np.array(7)).shape == ()
    assert schedule(np.zeros((0, 3))).shape == (0, 3)
    assert schedule([1, 2]).tolist() == schedule(range(1, 3)).tolist() == [schedule(1), schedule(2)]


@each
def test_any_whole_number_is_a_step(schedule: Schedule) -> None:
    same: list[Any] = [7, 7.0, np.int64(7), np.uint8(7), np.float32(7)]
    for step in same:
        found = schedule(step)
        assert type(found) is float
        assert found == schedule(7)


@each
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    again = eval(repr(schedule), vars(schedules))
    for same in (again, pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert same == schedule
        assert hash(same) == hash(schedule)
        assert same(13) == schedule(13)
    assert sum(schedule == other for other in ONE_OF_EACH) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, dataclasses.fields(schedule)[0].name, 3.0)  # type: ignore[arg-type]


def test_its_repr_is_the_call_that_makes_it() -> None:
    assert repr(exponential_decay(0.1, 10, 2)) == (
        "exponential_decay(initial=0.1, decay_steps=10, decay_rate=2.0, staircase=False)"
    )
    assert repr(piecewise_constant([5], [0.1, 1])) == "piecewise_constant(boundaries=(5,), values=(0.1, 1.0))"


@each
@pytest.mark.parametrize(
    ("step", "said"),
    [
        (-1, "-1 is not a step"),
        (2**63, "9223372036854775808 is not a step"),
        (2.5, "2.5 is not a step"),
        (math.nan, "nan is not a step"),
        (math.inf, "inf is not a step"),
        ("7", "'7' is not a step"),
        (None, "None is not a step"),
        ([3, 5, -2, -7], "-2 is not a step"),
        ([3.0, 5.25], "5.25 is not a step"),
        (np.array([1.0, math.nan]), "nan is not a step"),
        (np.array([math.inf, 1.0]), "inf is not a step"),
        (np.array([2.0**63]), "9.2.*e.18 is not a step"),
        (np.array([2**63], np.uint64), "9223372036854775808 is not a step"),
        (np.array([True]), "array of bool"),
        (["1"], "array of <U1"),
    ],
)
def test_what_is_no_step_is_refused(schedule: Schedule, step: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        schedule(step)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: exponential_decay(math.nan, 10, 2.0), "initial=nan: give a finite number"),
        (lambda: exponential_decay("0.1", 10, 2.0), "initial='0.1': give a finite number"),  # type: ignore[arg-type]
        (lambda: exponential_decay(0.1, 0, 2.0), "decay_steps=0: give a number of steps above 0"),
        (lambda: exponential_decay(0.1, -5, 2.0), "decay_steps=-5: give a number of steps above 0"),
        (lambda: exponential_decay(0.1, math.inf, 2.0), "decay_steps=inf: give a finite number"),
        (lambda: exponential_decay(0.1, 10, -2.0), "decay_rate=-2: give a finite number that is 0 or more"),
        (lambda: exponential_decay(1e200, 10, 2.0), r"initial=1e\+200: give a finite number, at most 1e\+100"),
        (lambda: natural_exp_decay(0.1, 10, math.inf), "decay_rate=inf"),
        (lambda: inverse_time_decay(0.1, 10, -0.5), "decay_rate=-0.5: give a finite number that is 0 or more"),
        (lambda: polynomial_decay(0.1, 10, power=-1.0), "power=-1: give a finite number that is 0 or more"),
        (lambda: polynomial_decay(0.1, 10, math.nan), "end_learning_rate=nan"),
        (lambda: cosine_decay(0.1, 0), "decay_steps=0"),
        (lambda: cosine_decay(0.1, 10, None), "alpha=None: give a finite number"),  # type: ignore[arg-type]
        (lambda: cosine_decay_restarts(0.1, -1), "first_decay_steps=-1"),
        (lambda: cosine_decay_restarts(0.1, 10, t_mul=0.5), "t_mul=0.5: give a finite number that is 1 or more"),
        (lambda: cosine_decay_restarts(0.1, 10, m_mul=-1.0), "m_mul=-1: give a finite number that is 0 or more"),
        (lambda: linear_cosine_decay(0.1, 10, num_periods=math.inf), "num_periods=inf"),
        (lambda: piecewise_constant([5, 5], [1.0, 2.0, 3.0]), "boundaries must increase, and 5 comes after 5"),
        (lambda: piecewise_constant([5, 4], [1.0, 2.0, 3.0]), "boundaries must increase, and 4 comes after 5"),
        (lambda: piecewise_constant([5, 10], [1.0, 2.0]), "2 boundaries part 3 values, and 2 were given"),
        (lambda: piecewise_constant([5.5], [1.0, 2.0]), r"boundaries\[0\]=5.5: give a whole number, 0 or more"),  # type: ignore[list-item]
        (lambda: piecewise_constant([1, -5], [1.0, 2.0]), r"boundaries\[1\]=-5: give a whole number"),
        (lambda: piecewise_constant([5], [1.0, math.nan]), r"values\[1\]=nan: give a finite number"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make: Callable[[], Schedule], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


@pytest.mark.parametrize("size", [1e-100, 0.1, 1e100])
def test_no_parameter_that_is_taken_breaks_the_arithmetic(size: float) -> None:
    """Infinities and NaN may come out (as of TensorFlow), exceptions may not: they would end the training."""
    made = [
        exponential_decay(size, size, size),
        natural_exp_decay(size, size, -size),
        inverse_time_decay(size, size, size, staircase=True),
        polynomial_decay(-size, size, size, size, cycle=True),
        cosine_decay(size, size, -size),
        cosine_decay_restarts(size, size, max(size, 1.0), size, size),
        cosine_decay_restarts(size, 1e-100, 1e100, size),
        linear_cosine_decay(size, size, -size, size, size),
    ]
    for schedule in made:
        for step in (0, 1, 1000, 2**63 - 1):
            assert type(schedule(step)) is float
