"""Statistics against brute force in exact arithmetic, and against TensorFlow's own moving averages."""

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tallyboard.statistics import EpochTotals, ExponentialMovingAverage, GradientNorms, RunningMean
from tests.property.test_schedules import REFERENCE
from tests.unit.client_kit import recorded

AVERAGES = json.loads(REFERENCE.read_text(encoding="utf-8"))["averages"]
EPS = float(np.finfo(np.float64).eps)
TINY = 1e-150
"""Norms below are sums of squares that are 0."""

values = st.floats(-1e12, 1e12)
series = st.lists(values, min_size=1, max_size=60)
shapes = arrays.array_shapes(min_dims=0, max_dims=3, max_side=4)


def exact_mean(xs: list[float]) -> Fraction:
    return sum(map(Fraction, xs), Fraction(0)) / len(xs)


def off(found: Any, exact: Fraction) -> float:
    return abs(float(Fraction(float(found)) - exact))


@settings(deadline=None)
@given(series)
def test_a_running_mean_is_the_mean(xs: list[float]) -> None:
    mean = RunningMean()
    for n, x in enumerate(xs, 1):
        mean.update(x)
        assert off(mean.mean, exact_mean(xs[:n])) <= 2 * n * EPS * max(map(abs, xs))
        assert mean.count == n


@settings(deadline=None)
@given(
    shapes.flatmap(lambda shape: st.lists(arrays.arrays(np.float64, shape, elements=values), min_size=1, max_size=8))
)
def test_a_mean_of_arrays_is_that_of_each_element(xs: list[Any]) -> None:
    whole = RunningMean()
    parts = [RunningMean() for _ in range(xs[0].size)]
    for x in xs:
        whole.update(x)
        for part, element in zip(parts, x.ravel().tolist(), strict=True):
            part.update(element)
    assert whole.shape == np.asarray(whole.mean).shape == xs[0].shape
    assert np.asarray(whole.mean).ravel().tolist() == [part.mean for part in parts]


@pytest.mark.slow
def test_a_million_values_far_from_zero_keep_their_digits() -> None:
    """In float32, or by a sum of squares, nothing would be left of a spread of 1 around 1e8."""
    noise = np.random.default_rng(0).normal(size=(1_000_000, 4))
    xs = 1e8 + noise
    mean = RunningMean()
    for x in xs:
        mean.update(x)
    for i, found in enumerate(np.asarray(mean.mean).tolist()):
        assert found - 1e8 == pytest.approx(math.fsum(xs[:, i] - 1e8) / len(xs), abs=2e-5)


@settings(deadline=None)
@given(series, st.floats(0.0, 1.0), st.booleans(), st.booleans())
def test_an_average_is_its_weighted_sum(xs: list[float], decay: float, counted: bool, debias: bool) -> None:
    """Not by the recursion, but as the sum over all values with the weight that each has in the end."""
    n = iter(range(1, len(xs) + 1))
    ema = ExponentialMovingAverage(decay, (lambda: next(n)) if counted else None, zero_debias=debias)
    decays = [min(decay, (1 + i) / (10 + i)) if counted else decay for i in range(1, len(xs) + 1)]
    weights = []
    for i, x in enumerate(xs):
        ema.apply(x)
        own = Fraction(1) - Fraction(decays[i]) if i or debias else Fraction(1)
        weights.append(own * math.prod((Fraction(d) for d in decays[i + 1 :]), start=Fraction(1)))
    total = sum(weights)
    found = ema.average()
    if debias and total == 0:
        assert math.isnan(float(np.asarray(found)))
        return
    exact = sum((w * Fraction(x) for w, x in zip(weights, xs, strict=True)), Fraction(0))
    exact = exact / total if debias else exact
    reach = max(map(abs, xs))
    assert off(found, exact) <= 4 * len(xs) * EPS * reach / (float(total) if debias else 1.0) + 1e-300


@pytest.mark.parametrize("case", AVERAGES, ids=lambda case: f"{case['of']}-{case['decay']}-{case['num_updates']}")
def test_averages_are_tensorflows(case: dict[str, Any]) -> None:
    step = recorded().run.counter()
    debias = case["of"] == "tensor"
    ema = ExponentialMovingAverage(case["decay"], step if case["num_updates"] else None, zero_debias=debias)
    if not debias:
        ema.apply(case["values"][0])  # as the variable was initialised
    for value, theirs in zip(case["values"], case["averages"], strict=True):
        step.increment()
        ema.apply(value)
        assert np.asarray(ema.average()) == pytest.approx(np.array(theirs), rel=1e-5, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=10))
def test_norms_are_those_of_the_vectors(gradients: list[list[float]]) -> None:
    norms = GradientNorms(recorded().run)
    for gradient in gradients:
        found = norms.update({"w": gradient, "b": 1.0})
    last = gradients[-1]
    mean = [float(exact_mean([g[i] for g in gradients])) for i in range(3)]
    assert found["gradients/w/norm"] == pytest.approx(math.hypot(*last), rel=1e-12, abs=TINY)
    assert found["gradients/global_norm"] == pytest.approx(math.hypot(*last, 1.0), rel=1e-12)
    reach = max(abs(element) for gradient in gradients for element in gradient)
    assert found["gradients/w/mean_norm"] == pytest.approx(math.hypot(*mean), rel=1e-12, abs=1e-13 * reach + TINY)


@settings(deadline=None)
@given(st.lists(st.tuples(values, st.floats(0.0, 1e6)), min_size=1, max_size=60))
def test_an_epoch_s_mean_is_weighted(pairs: list[tuple[float, float]]) -> None:
    totals = EpochTotals(len(pairs), recorded().run.counter("epoch"))
    for x, weight in pairs:
        totals.add({"loss": x}, weight)
    whole = sum((Fraction(w) for _, w in pairs), Fraction(0))
    means = totals.end()
    if not whole:
        assert means == {}
        return
    exact = sum((Fraction(x) * Fraction(w) for x, w in pairs), Fraction(0)) / whole
    assert off(means["loss"], exact) <= 4 * len(pairs) * EPS * max(abs(x) for x, _ in pairs) + 1e-300
