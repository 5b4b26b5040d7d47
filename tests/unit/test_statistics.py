"""Statistics: what they start with, report, keep for a checkpoint, and refuse."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tallyboard.errors import ConfigurationError
from tallyboard.statistics import EpochTotals, ExponentialMovingAverage, GradientNorms, RunningMean, epoch_step
from tests.unit.client_kit import recorded


class Tensor:
    """Read as a tensor that needs gradients and lives on a device has to be."""

    def __init__(self, values: Any, where: str = "gpu, in a graph") -> None:
        self.values = np.asarray(values)
        self.where = where

    def detach(self) -> "Tensor":
        return Tensor(self.values, "gpu")

    def cpu(self) -> "Tensor":
        assert self.where == "gpu"
        return Tensor(self.values, "cpu")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        assert self.where == "cpu"
        return self.values


# ── exponential moving averages ──────────────────────────────────────────────────────────────────────────────────


def test_an_average_starts_as_the_first_value() -> None:
    ema = ExponentialMovingAverage(0.75)
    assert ema.average() is None
    ema.apply(4.0)
    assert ema.average() == 4.0
    ema.apply(8.0)
    assert ema.average() == 5.0


def test_averages_have_names_and_any_shape_and_are_the_callers_to_keep() -> None:
    ema = ExponentialMovingAverage(0.5)
    weights: dict[str, Any] = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3)}
    ema.apply(weights)
    weights["w"] += 1
    weights["b"] += 1
    ema.apply(weights)
    given = ema.average("w")
    assert isinstance(given, np.ndarray)
    assert given.dtype == np.float64
    given += 100
    assert np.array_equal(np.asarray(ema.average("w")), np.full((2, 3), 0.5))
    assert np.array_equal(np.asarray(ema.average("b")), np.full(3, 0.5))
    assert set(ema.averages) == {"w", "b"}
    assert ema.average("other") is None
    ema.reset()
    assert ema.averages == {}


def test_the_decay_is_lower_while_updates_are_few() -> None:
    step = recorded().run.counter("global_step")
    ema = ExponentialMovingAverage(0.999, num_updates=step)
    ema.apply(0.0)
    step.increment()
    ema.apply(1.0)
    assert ema.average() == pytest.approx(1 - 2 / 11)
    counted: Iterator[Any] = iter([np.int64(0), 10**9])
    ema = ExponentialMovingAverage(0.75, num_updates=lambda: next(counted), zero_debias=True)
    ema.apply(8.0)
    assert ema.average() == 8.0
    ema.apply(0.0)
    assert ema.average() == pytest.approx(0.75 * 0.9 * 8.0 / (1 - 0.75 * 0.1))


def test_a_number_that_is_not_finite_stays_in_its_element() -> None:
    ema = ExponentialMovingAverage(0.5)
    for value in ([1.0, 1.0, 1.0], [1.0, math.nan, math.inf], [3.0, 3.0, 3.0]):
        ema.apply(np.array(value))
    found = np.asarray(ema.average())
    assert found[0] == 2.0
    assert not np.isfinite(found[1:]).any()


def test_one_bad_value_changes_no_average() -> None:
    ema = ExponentialMovingAverage(0.5)
    ema.apply({"w": 1.0, "b": [1.0, 2.0]})
    with pytest.raises(ConfigurationError, match=r"value 'b' has shape \(3,\), and had \(2,\) before"):
        ema.apply({"w": 9.0, "b": [1.0, 2.0, 3.0]})
    with pytest.raises(ConfigurationError, match="value 'b': an array of <U1, and no numbers"):
        ema.apply({"w": 9.0, "b": "x"})
    assert ema.average("w") == 1.0


@pytest.mark.parametrize("decay", [-0.1, 1.1, math.nan, "x"])
def test_a_decay_is_between_0_and_1(decay: Any) -> None:
    with pytest.raises(ConfigurationError, match="decay="):
        ExponentialMovingAverage(decay)


# ── running means ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mean_of_nothing_is_none_and_reset_begins_anew() -> None:
    mean = RunningMean()
    assert (mean.mean, mean.count, mean.shape, mean.norm()) == (None, 0, None, 0.0)
    mean.update([3.0, 0.0])
    mean.update([3.0, 8.0])
    assert np.array_equal(np.asarray(mean.mean), [3.0, 4.0])
    assert (mean.count, mean.shape, mean.norm()) == (2, (2,), 5.0)
    mean.reset()
    mean.update(Tensor(7))
    assert (mean.mean, mean.count) == (7.0, 1)
    assert type(mean.mean) is float


def test_another_shape_is_refused_and_changes_nothing() -> None:
    mean = RunningMean()
    mean.update([[1.0, 2.0]])
    with pytest.raises(ConfigurationError, match=r"has shape \(2, 2\), and had \(1, 2\) before"):
        mean.update(np.ones((2, 2)))
    with pytest.raises(ConfigurationError, match=r"has shape \(\), and had \(1, 2\) before"):
        mean.update(1.0)
    assert mean.count == 1


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_until_reset(strange: float) -> None:
    mean = RunningMean()
    for value in ([1.0, 1.0], [strange, 2.0], [1.0, 3.0]):
        mean.update(value)
    found = np.asarray(mean.mean)
    assert not np.isfinite(found[0])
    assert found[1] == 2.0
    mean.reset()
    mean.update(1.0)
    assert mean.mean == 1.0


# ── gradient norms ───────────────────────────────────────────────────────────────────────────────────────────────


def test_norms_are_reported_by_variable() -> None:
    mine = recorded(strict=True)
    step = mine.run.counter("G_global_step")
    norms = GradientNorms(step, "G/gradients")
    step.increment()
    norms.update({"w": np.array([[3.0, 4.0]], np.float32), "b": Tensor([12.0]), "frozen": None})
    step.increment()
    found = norms.update(iter([("w", Tensor([[-3.0, -4.0]])), ("b", np.array([12.0]))]))
    first = {
        "G/gradients/w/norm": 5.0, "G/gradients/w/mean_norm": 5.0,
        "G/gradients/b/norm": 12.0, "G/gradients/b/mean_norm": 12.0, "G/gradients/global_norm": 13.0,
    }  # fmt: skip
    second = first | {"G/gradients/w/mean_norm": 0.0}
    assert mine.rows() == [("G_global_step", 1, first, {}), ("G_global_step", 2, second, {})]
    assert found == second
    assert np.array_equal(np.asarray(norms.mean("w")), [[0.0, 0.0]])
    assert norms.mean("frozen") is None


def test_a_run_is_as_good_as_a_counter_and_log_can_wait() -> None:
    mine = recorded(strict=True)
    norms = GradientNorms(mine.run, means=False)
    assert norms.update({"w": 2.0}, log=False) == {"gradients/w/norm": 2.0, "gradients/global_norm": 2.0}
    assert norms.update({"w": None}) == {}
    norms.update({"w": 3.0})
    assert mine.rows() == [("global_step", 1, {"gradients/w/norm": 3.0, "gradients/global_norm": 3.0}, {})]
    assert norms.state_dict() == {}


def test_a_gradient_that_is_not_finite_is_shown_and_spoils_no_mean() -> None:
    norms = GradientNorms(recorded().run)
    assert norms.update({"w": [math.nan, 1.0]}).keys() == {"gradients/w/norm", "gradients/global_norm"}
    norms.update({"w": [3.0, 4.0]})
    found = norms.update({"w": [math.inf, 1.0]})
    assert (found["gradients/w/norm"], found["gradients/w/mean_norm"]) == (math.inf, 5.0)
    assert found["gradients/global_norm"] == math.inf
    norms.reset()
    assert norms.mean("w") is None


def test_a_gradient_of_another_shape_changes_no_mean() -> None:
    norms = GradientNorms(recorded().run)
    norms.update({"a": 1.0, "w": [3.0, 4.0]})
    with pytest.raises(ConfigurationError, match=r"the gradient of 'w' has shape \(3,\), and had \(2,\) before"):
        norms.update({"a": 5.0, "w": [3.0, 4.0, 5.0]})
    assert norms.mean("a") == 1.0


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_epoch_s_means_are_reported_on_its_counter() -> None:
    mine = recorded(strict=True)
    epoch = mine.run.counter("epoch")
    totals = EpochTotals(3, epoch)
    steps = []
    for number in range(2):
        for i in range(3):
            steps.append(totals.add({"epoch/loss": float(i), "epoch/rare": 7.0 if i else math.pi}, weight=i))
            assert totals.step == steps[-1] == epoch_step(number, 3, i + 1)
        expected = {"epoch/loss": 5 / 3, "epoch/rare": 7.0}
        assert totals.means == pytest.approx(expected)
        assert totals.end() == pytest.approx(expected)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [(name, at) for name, at, _, _ in mine.rows()] == [("epoch", 1), ("epoch", 2)]


def test_an_epoch_may_be_short_and_never_too_long() -> None:
    mine = recorded(strict=True)
    totals = EpochTotals(2, mine.run.counter("epoch"))
    assert totals.add({"a": 1.0}) == 1
    totals.end()
    assert (totals.step, totals.add({"a": 1.0}), totals.add({"a": 3.0})) == (2, 3, 4)
    with pytest.raises(ConfigurationError, match="i=3: an epoch has 2 iterations"):
        totals.add({"a": 100.0})
    assert totals.means == {"a": 2.0}
    totals.reset()
    assert (totals.step, totals.means) == (2, {})
    assert totals.end() == {}, "an epoch of nothing moves the counter and reports nothing"
    assert mine.run.counter("epoch").value == 2


def test_a_value_that_is_not_finite_is_its_epoch_s_alone() -> None:
    totals = EpochTotals(2, recorded().run.counter("epoch"))
    totals.add({"a": math.nan}, weight=0.0)
    totals.add({"a": math.inf})
    assert not math.isfinite(totals.end()["a"])
    totals.add({"a": 1.0})
    assert totals.means == {"a": 1.0}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda totals: totals.add({"a": "x"}), "'a' is str 'x', which is not one number"),
        (lambda totals: totals.add([1.0]), "log takes a dictionary"),
        (lambda totals: totals.add({"a": 1.0}, weight=-1.0), "weight=-1: give a finite number that is 0 or more"),
        (lambda totals: totals.add({"a": 1.0}, weight=math.nan), "weight=nan"),
        (lambda _: epoch_step(-1, 10, 0), "epoch=-1: give a whole number, 0 or more"),
        (lambda _: epoch_step(0, 0, 0), "iterations=0: give a whole number, 1 or more"),
        (lambda _: epoch_step(0, 10, 11), "i=11: an epoch has 10 iterations"),
        (lambda _: epoch_step(0, 10, 0.5), "i=0.5: give a whole number, 0 or more"),  # type: ignore[arg-type]
    ],
)
def test_what_an_epoch_can_t_take_changes_nothing(bad: Callable[[EpochTotals], object], said: str) -> None:
    totals = EpochTotals(10, recorded().run.counter("epoch"))
    with pytest.raises(ConfigurationError, match=said):
        bad(totals)
    assert (totals.step, totals.means) == (0, {})


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────


def ema(debias: bool) -> ExponentialMovingAverage:
    made = ExponentialMovingAverage(0.75, zero_debias=debias)
    made.apply({"w": np.ones(3), "b": 2.0})
    made.apply({"w": np.arange(3), "b": 1.0})
    return made


def running_mean() -> RunningMean:
    made = RunningMean()
    made.update([1.0, 2.0])
    return made


def gradient_norms() -> GradientNorms:
    made = GradientNorms(recorded().run)
    made.update({"w": [3.0, 4.0]})
    made.update({"w": [1.0, 4.0], "b": math.nan})
    return made


def epoch_totals() -> EpochTotals:
    made = EpochTotals(10, recorded().run.counter("epoch"))
    made.add({"a": 1.0, "b": 2.0}, weight=3.0)
    made.add({"a": 5.0})
    return made


def plain(value: Any) -> Any:
    """A state as JSON has it."""
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


MADE: list[tuple[Any, Any, Any]] = [
    (ema(False), ExponentialMovingAverage(0.75), {"w": np.full(3, 9.0), "b": 9.0}),
    (ema(True), ExponentialMovingAverage(0.75, zero_debias=True), {"w": np.full(3, 9.0), "b": 9.0}),
    (ExponentialMovingAverage(0.75), ema(False), 3.0),
    (running_mean(), RunningMean(), [7.0, 9.0]),
    (RunningMean(), running_mean(), 1.0),
    (gradient_norms(), GradientNorms(recorded().run), {"w": [9.0, 9.0]}),
    (epoch_totals(), EpochTotals(10, recorded().run.counter("epoch")), {"a": 9.0}),
]


@pytest.mark.parametrize(("one", "other", "value"), MADE)
def test_from_a_checkpoint_it_goes_on_as_if_nothing_had_happened(one: Any, other: Any, value: Any) -> None:
    def go_on(made: Any) -> None:
        {ExponentialMovingAverage: lambda: made.apply(value), EpochTotals: lambda: made.add(value)}.get(
            type(made), lambda: made.update(value)
        )()

    saved = one.state_dict()
    as_json = plain(saved)
    other.load_state_dict(as_json)
    assert plain(other.state_dict()) == as_json
    go_on(one)
    assert plain(saved) == as_json, "a state that was saved stays as it is"
    go_on(other)
    assert plain(other.state_dict()) == plain(one.state_dict())
    assert plain(other.state_dict()) != as_json


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (ema(False), {}),
        (ema(False), None),
        (ema(False), {"averages": {"w": [1.0]}, "missing": {"w": 0.5}}),
        (ema(True), {"averages": {"w": [1.0]}, "missing": {}}),
        (ema(True), {"averages": {"w": "x"}, "missing": {"w": 0.5}}),
        (ema(True), {"averages": {"w": 1.0}, "missing": {"w": [0.5, 0.5]}}),
        (ema(True), {"averages": [1.0], "missing": {}}),
        (running_mean(), {"mean": None, "count": 3}),
        (running_mean(), {"mean": [1.0], "count": 0}),
        (running_mean(), {"mean": [1.0], "count": -1}),
        (running_mean(), {"mean": [1.0], "count": True}),
        (running_mean(), {"mean": [1.0], "count": 1, "more": 1}),
        (gradient_norms(), [1.0]),
        (gradient_norms(), {"w": {"mean": [1.0]}}),
        (epoch_totals(), {"done": 11, "means": {}, "weights": {}}),
        (epoch_totals(), {"done": 1, "means": {"a": 1.0}, "weights": {}}),
        (epoch_totals(), {"done": 1, "means": {"a": "x"}, "weights": {"a": 1.0}}),
        (epoch_totals(), {"done": 1, "means": {"a": 1.0}, "weights": {"a": -1.0}}),
        (epoch_totals(), {"done": 1, "means": 3, "weights": {}}),
    ],
)
def test_what_is_no_such_state_changes_nothing(made: Any, state: Any) -> None:
    before = plain(made.state_dict())
    with pytest.raises(ConfigurationError):
        made.load_state_dict(state)
    assert plain(made.state_dict()) == before
