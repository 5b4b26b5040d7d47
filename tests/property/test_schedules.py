"""Schedules are TensorFlow's: its own values at many steps, and the published formulas in plain arithmetic."""

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard import schedules
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

REFERENCE = Path(__file__).parents[1] / "references" / "schedules" / "tensorflow-2.21.0.json"
CASES = json.loads(REFERENCE.read_text(encoding="utf-8"))["schedules"]

Real = np.longdouble
PI = Real("3.14159265358979323846264338327950288")
steps = st.integers(0, 10_000)
rates = st.floats(1e-6, 2.0)
periods = st.integers(1, 1_000) | st.floats(0.5, 1_000.0)


def call(case: dict[str, Any]) -> Schedule:
    made = getattr(schedules, case["name"])(**case["arguments"])
    assert isinstance(made, Schedule)
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{case['arguments']}")
def test_values_are_tensorflows(case: dict[str, Any]) -> None:
    found = call(case)(np.array(case["steps"]))
    # What is no tensor of the caller's becomes float32 in TensorFlow: constants, and the default end of a polynomial.
    arguments, plain = case["arguments"], {"piecewise_constant": "x", "polynomial_decay": "end_learning_rate"}
    single = case["dtype"] == "float32" or plain.get(case["name"], "initial") not in arguments
    # A float32 cosine is right to an ulp of 1, not of itself: near 0 that is all of it. Its float64 have no
    # subnormal numbers.
    reach = max(map(abs, case["values"]))
    for step, mine, theirs in zip(case["steps"], found.tolist(), case["values"], strict=True):
        if not (case["name"] == "cosine_decay_restarts" and is_restart(arguments, step)):
            assert mine == pytest.approx(
                theirs, rel=1e-7 if single else 1e-12, abs=4e-7 * reach if single else 1e-300
            ), step


def is_restart(arguments: dict[str, Any], step: int) -> bool:
    """Whether a period begins here: in float32 that comes out as the end of one as often."""
    begin, length = Fraction(0), Fraction(arguments["first_decay_steps"])
    while begin < step:
        begin, length = begin + length, length * Fraction(arguments.get("t_mul", 2.0))
    return begin == step


def test_every_function_has_values_of_tensorflow() -> None:
    made = {name for name in schedules.__all__ if name[0].islower()}
    assert {case["name"] for case in CASES} == made


def share(step: int, period: float, staircase: bool = False) -> Any:
    exact = Real(step) / Real(period)
    return Real(math.floor(step / period)) if staircase else exact


def close(mine: float, exact: Any, reach: float) -> bool:
    """Within some roundings of numbers of this size."""
    return bool(abs(Real(mine) - exact) <= 1e-12 * reach)


@settings(deadline=None)
@given(rates, periods, st.floats(0.01, 1.0), st.booleans(), steps)
def test_decays_follow_their_formulas(initial: float, period: float, rate: float, staircase: bool, step: int) -> None:
    s = share(step, period, staircase)
    exact = Real(initial) * Real(rate) ** s
    assert close(exponential_decay(initial, period, rate, staircase)(step), exact, initial)
    exact = Real(initial) * np.exp(-Real(rate) * s)
    assert close(natural_exp_decay(initial, period, rate, staircase)(step), exact, initial)
    exact = Real(initial) / (1 + Real(rate) * s)
    assert close(inverse_time_decay(initial, period, rate, staircase)(step), exact, initial)


@settings(deadline=None)
@given(rates, st.integers(1, 1_000), rates, st.sampled_from([0.5, 1.0, 2.0, 3.5]), st.booleans(), steps)
def test_polynomials_follow_their_formula(
    initial: float, period: int, end: float, power: float, cycle: bool, step: int
) -> None:
    whole = period
    while cycle and whole < step:
        whole += period
    left = 1 - Fraction(min(step, whole), whole)
    exact = (Real(initial) - Real(end)) * (Real(left.numerator) / Real(left.denominator)) ** Real(power) + Real(end)
    # The square root of what is left magnifies its rounding where nearly nothing is.
    assert abs(Real(polynomial_decay(initial, period, end, power, cycle)(step)) - exact) <= 1e-7 * (initial + end)
    if power >= 1:
        assert close(polynomial_decay(initial, period, end, power, cycle)(step), exact, initial + end)


@settings(deadline=None)
@given(rates, st.integers(1, 1_000), st.floats(-1.0, 1.0), st.floats(0.0, 5.0), st.floats(0.0, 1.0), steps)
def test_cosines_follow_their_formulas(
    initial: float, period: int, alpha: float, num_periods: float, beta: float, step: int
) -> None:
    s = min(share(step, period), Real(1))
    half = (1 + np.cos(PI * s)) / 2
    assert close(
        cosine_decay(initial, period, alpha)(step), Real(initial) * ((1 - Real(alpha)) * half + alpha), initial
    )
    half = (1 + np.cos(2 * PI * Real(num_periods) * s)) / 2
    exact = Real(initial) * ((Real(alpha) + 1 - s) * half + Real(beta))
    assert close(linear_cosine_decay(initial, period, num_periods, alpha, beta)(step), exact, 30 * initial)


@settings(deadline=None)
@given(
    rates, st.integers(1, 100), st.sampled_from([1, 2, 3, Fraction(3, 2), Fraction(5, 4)]), st.floats(0.1, 1.01), steps
)
def test_restarts_are_where_adding_up_the_periods_puts_them(
    initial: float, period: int, t_mul: Fraction, m_mul: float, step: int
) -> None:
    begin, length, height = Fraction(0), Fraction(period), initial
    while begin + length <= step:
        begin, length, height = begin + length, length * t_mul, height * m_mul
    part = (step - begin) / length
    exact = Real(height) * (1 + np.cos(PI * Real(part.numerator) / Real(part.denominator))) / 2
    found = cosine_decay_restarts(initial, period, float(t_mul), m_mul)(step)
    assert abs(Real(found) - exact) <= 1e-9 * max(height, initial)


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), unique=True, max_size=20), st.data(), st.integers(0, 310))
def test_a_constant_holds_up_to_and_including_its_boundary(
    boundaries: list[int], data: st.DataObject, step: int
) -> None:
    boundaries.sort()
    values = data.draw(st.lists(rates, min_size=len(boundaries) + 1, max_size=len(boundaries) + 1))
    held = values[-1]
    for boundary, value in reversed(list(zip(boundaries, values, strict=False))):
        if step <= boundary:
            held = value
    assert piecewise_constant(boundaries, values)(step) == held
