"""Figures across runs are those of a plain calculation, and buckets of equal width are found anywhere in int64."""

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st

from tallyboard.wire import Float64, Int64
from tallyboard_server.series.buckets import bucket_starts
from tallyboard_server.series.groups import Curve, across, common_grid, curve_of
from tallyboard_server.series.question import Line, Places
from tallyboard_server.store import envelope

STEPS = st.integers(0, 2**63 - 1)
NEAR = st.integers(0, 60)
VALUES = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])
Run = list[tuple[int, float]]


def line_of(points: Run) -> Line:
    steps = np.array([step for step, _ in points], np.int64)
    cells = envelope.of_points(steps, steps.astype(np.float64), np.array([value for _, value in points], np.float64))
    return Line("loss", "global_step", cells, Places(steps, steps, steps, steps), False)


def value_at(points: Run, x: int) -> float | None:
    """By the definition: linear between finite points, nothing beyond them."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    before = [point for point in finite if point[0] <= x]
    after = [point for point in finite if point[0] >= x]
    if not before or not after:
        return None
    (x0, y0), (x1, y1) = before[-1], after[0]
    if x0 >= x1:
        return y0
    share = Fraction(x - x0, x1 - x0)
    return float(Fraction(y0) * (1 - share) + Fraction(y1) * share)


@given(
    runs=st.lists(
        st.dictionaries(NEAR, VALUES, min_size=1, max_size=12).map(lambda run: sorted(run.items())), min_size=1,
        max_size=5,
    ),
    places_max=st.integers(1, 80),
)  # fmt: skip
def test_groups_are_what_a_plain_calculation_finds(runs: list[Run], places_max: int) -> None:
    curves = [curve_of(line_of(run)) for run in runs]
    assert [curve.nonfinite for curve in curves] == [sum(not math.isfinite(v) for _, v in run) for run in runs]
    grid = common_grid(curves, places_max)
    own = sorted({step for run in runs for step, value in run if math.isfinite(value)})
    event("spaced" if len(own) > places_max else "own places")
    assert len(grid) <= places_max
    if len(own) <= places_max:
        assert grid.tolist() == own
    elif places_max > 1:
        assert (grid[0], grid[-1]) == (own[0], own[-1])
        assert np.ptp(np.diff(grid)) <= 1
    found = across(curves, grid)
    expected = []
    for x in grid.tolist():
        values = [value for run in runs if (value := value_at(run, x)) is not None]
        if values:
            expected.append((x, values))
    assert found.x.tolist() == [x for x, _ in expected]
    assert found.count.tolist() == [len(values) for _, values in expected]
    for i, (_, values) in enumerate(expected):
        close = {"rel_tol": 1e-9, "abs_tol": 1e-8}
        assert math.isclose(found.mean[i], statistics.fmean(values), **close)
        assert math.isclose(found.min[i], min(values), **close)
        assert math.isclose(found.max[i], max(values), **close)
        assert math.isclose(found.std[i], statistics.stdev(values) if len(values) > 1 else 0.0, **close)


def test_groups_of_huge_values_stay_finite() -> None:
    far = np.array([0, 2**63 - 1])
    curves = [Curve(far, far, np.array([v, -v]), 0) for v in (1.7e308, 1.6e308)]
    found = across(curves, common_grid(curves, 3))
    assert found.x.tolist() == [0, 2**63 - 1]
    np.testing.assert_allclose(found.mean, [1.65e308, -1.65e308], rtol=1e-12)
    np.testing.assert_allclose(found.std, [7.0710678118654e306] * 2, rtol=1e-9)
    clocks = np.array([-1.5e308, 1.5e308])
    wide = [Curve(clocks, clocks, np.array([0.0, 1.0]), 0), Curve(clocks[:1] / 3, clocks[:1] / 3, np.array([5.0]), 0)]
    assert across(wide, np.array([-1.5e308, 0.0, 1.5e308])).mean.tolist() == [0.0, 0.5, 1.0]


def test_buckets_in_groups_reach_to_their_ends() -> None:
    """Means stand at the middle of a bucket's x; towards the ends of the run's range the outer ones hold."""
    curve = Curve(np.array([0, 10]), np.array([4, 20]), np.array([1.0, 4.0]), 0)
    found = across([curve], np.array([0, 2, 8, 15, 20, 21]))
    assert found.x.tolist() == [0, 2, 8, 15, 20]
    np.testing.assert_allclose(found.mean, [1.0, 1.0, 1.0 + 3.0 * 6 / 13, 4.0, 4.0])


def check_starts(first: "Int64 | Float64", end: float, buckets: int, shares: Sequence[Fraction]) -> None:
    starts = bucket_starts(first, end, buckets)
    assert starts[0] == 0
    assert 1 <= len(starts) <= buckets
    assert (np.diff(starts) > 0).all()
    place = np.searchsorted(starts, np.arange(len(first)), side="right")
    for i, share in enumerate(shares):  # cells of one bucket are near each other, cells of two are not much nearer
        for j in range(i + 1, len(shares)):
            apart = shares[j] - share
            assert apart <= Fraction(1, buckets) + Fraction(1, 10**9) or place[i] != place[j]


@given(steps=st.lists(STEPS, min_size=1, max_size=15).map(sorted), extra=STEPS, buckets=st.integers(1, 10_000))
def test_buckets_anywhere_in_int64(steps: list[int], extra: int, buckets: int) -> None:
    end = max(steps[-1], extra)
    way = max(1, end - steps[0])
    check_starts(np.array(steps, np.int64), end, buckets, [Fraction(step - steps[0], way) for step in steps])


@given(
    clocks=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=15).map(sorted),
    buckets=st.integers(1, 10_000),
)
def test_buckets_anywhere_in_finite_time(clocks: list[float], buckets: int) -> None:
    way = Fraction(clocks[-1]) - Fraction(clocks[0]) or Fraction(1)
    shares = [(Fraction(clock) - Fraction(clocks[0])) / way for clock in clocks]
    check_starts(np.array(clocks), clocks[-1], buckets, shares)
