"""Decays by powers, and steps from one constant to the next; formulas as in TensorFlow 1's `tf.train`."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from tallyboard.errors import ConfigurationError
from tallyboard.parameters import at_least, finite, whole
from tallyboard.schedules.checks import period
from tallyboard.schedules.schedule import Schedule, power


def exponential_decay(initial: float, decay_steps: float, decay_rate: float, staircase: bool = False) -> Schedule:
    """initial · decay_rate ^ (step / decay_steps); with `staircase` the exponent is rounded down.

    decay_rate: 0 or more; above 1 it grows, to infinity where floats end. Raises ConfigurationError (a ValueError).
    """
    rate = at_least(0.0, "decay_rate", decay_rate)
    return _Exponential(finite("initial", initial), period("decay_steps", decay_steps), rate, bool(staircase))


def natural_exp_decay(initial: float, decay_steps: float, decay_rate: float, staircase: bool = False) -> Schedule:
    """initial · exp(-decay_rate · step / decay_steps); with `staircase` step / decay_steps is rounded down.

    decay_rate: below 0 it grows. Raises ConfigurationError (a ValueError).
    """
    rate = finite("decay_rate", decay_rate)
    return _NaturalExp(finite("initial", initial), period("decay_steps", decay_steps), rate, bool(staircase))


def inverse_time_decay(initial: float, decay_steps: float, decay_rate: float, staircase: bool = False) -> Schedule:
    """initial / (1 + decay_rate · step / decay_steps); with `staircase` step / decay_steps is rounded down.

    decay_rate: 0 or more. Raises ConfigurationError (a ValueError).
    """
    rate = at_least(0.0, "decay_rate", decay_rate)
    return _InverseTime(finite("initial", initial), period("decay_steps", decay_steps), rate, bool(staircase))


def polynomial_decay(
    initial: float, decay_steps: float, end_learning_rate: float = 0.0001, power: float = 1.0, cycle: bool = False
) -> Schedule:
    """(initial - end) · (1 - step / decay_steps) ^ power + end, and `end` from decay_steps on.

    cycle: instead of staying there, decay_steps is multiplied until it reaches the step, so that the value jumps up
    after each multiple of decay_steps and comes down to `end` at the next. power: 0 or more. Raises ConfigurationError
    (a ValueError).
    """
    return _Polynomial(
        finite("initial", initial),
        period("decay_steps", decay_steps),
        finite("end_learning_rate", end_learning_rate),
        at_least(0.0, "power", power),
        bool(cycle),
    )


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """values[0] up to and including the step boundaries[0], then values[1] up to boundaries[1], … and the last value.

    There is one value more than there are boundaries, which increase. Raises ConfigurationError (a ValueError).
    """
    steps = tuple(whole(0, f"boundaries[{i}]", boundary) for i, boundary in enumerate(boundaries))
    constants = tuple(finite(f"values[{i}]", value) for i, value in enumerate(values))
    for one, other in pairwise(steps):
        if one >= other:
            raise ConfigurationError(f"boundaries must increase, and {other} comes after {one}")
    if len(constants) != len(steps) + 1:
        raise ConfigurationError(
            f"{len(steps)} boundaries part {len(steps) + 1} values, and {len(constants)} were given"
        )
    return _Piecewise(steps, constants)


@dataclass(slots=True, frozen=True, repr=False)
class _Decay(Schedule):
    """What depends on how many times decay_steps have passed: wholly, with `staircase`."""

    initial: float
    decay_steps: float
    decay_rate: float
    staircase: bool

    def _passed(self, step: int) -> float:
        passed = step / self.decay_steps
        return math.floor(passed) if self.staircase else passed


@dataclass(slots=True, frozen=True, repr=False)
class _Exponential(_Decay):
    kind: ClassVar[str] = "exponential_decay"

    def at(self, step: int) -> float:
        return self.initial * power(self.decay_rate, self._passed(step))


@dataclass(slots=True, frozen=True, repr=False)
class _NaturalExp(_Decay):
    kind: ClassVar[str] = "natural_exp_decay"

    def at(self, step: int) -> float:
        try:
            return self.initial * math.exp(-self.decay_rate * self._passed(step))
        except OverflowError:
            return self.initial * math.inf


@dataclass(slots=True, frozen=True, repr=False)
class _InverseTime(_Decay):
    kind: ClassVar[str] = "inverse_time_decay"

    def at(self, step: int) -> float:
        return self.initial / (1.0 + self.decay_rate * self._passed(step))


@dataclass(slots=True, frozen=True, repr=False)
class _Polynomial(Schedule):
    kind: ClassVar[str] = "polynomial_decay"
    initial: float
    decay_steps: float
    end_learning_rate: float
    power: float
    cycle: bool

    def at(self, step: int) -> float:
        steps = self.decay_steps
        if self.cycle and step > steps:
            steps *= math.ceil(step / steps)
        left = max(1.0 - step / steps, 0.0)  # rounding must not make it negative
        return (self.initial - self.end_learning_rate) * power(left, self.power) + self.end_learning_rate


@dataclass(slots=True, frozen=True, repr=False)
class _Piecewise(Schedule):
    kind: ClassVar[str] = "piecewise_constant"
    boundaries: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, step: int) -> float:
        return self.values[bisect_left(self.boundaries, step)]
