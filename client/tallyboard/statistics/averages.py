"""Averages of numbers of any shape: exponential ones, as TensorFlow 1 has them, and plain running means."""

from collections.abc import Callable, Mapping
from typing import Any, Final, SupportsIndex

import numpy as np

from tallyboard.errors import ConfigurationError
from tallyboard.parameters import finite, whole
from tallyboard.statistics.arrays import Floats, as_floats, check_shape, norm, saved, saved_count, shown

_ONE: Final = ""
"""The name of values that are given without one."""


class ExponentialMovingAverage:
    """average ← average - (1 - decay) · (average - value), for each of many named arrays, in float64.

    decay: 0 to 1. num_updates: a counter, or a function that gives a number n; the decay of an update is then
    min(decay, (1 + n) / (10 + n)), which moves faster at the start of a training.

    An average starts as the first value, so that `apply` before the first update of the weights does what TensorFlow
    1's does for variables. With `zero_debias` it starts at 0, and what is given out is divided by the weight that the
    values have in it (1 - decayⁿ for a constant decay): TensorFlow's way with tensors, from Kingma & Ba (2014).

    A NaN or an infinity makes that element of the average one that is not finite, for good. Not thread-safe.
    """

    def __init__(
        self,
        decay: float,
        num_updates: SupportsIndex | Callable[[], SupportsIndex] | None = None,
        *,
        zero_debias: bool = False,
    ) -> None:
        """Raises ConfigurationError (a ValueError) unless decay is in 0…1."""
        self.decay: Final = finite("decay", decay)
        if not 0.0 <= self.decay <= 1.0:
            raise ConfigurationError(f"decay={decay}: give a number in 0…1, such as 0.999")
        self.zero_debias: Final = bool(zero_debias)
        self._num_updates = num_updates
        self._averages: dict[str, Floats] = {}
        self._missing: dict[str, float] = {}  # with zero_debias: what 0 still weighs in an average

    def apply(self, values: Any) -> None:
        """Take in one value of each name, `{"w1": w1, "b1": b1}`, or a single value without a name.

        Raises ConfigurationError (a ValueError), before any average is changed, for what is no numbers, or has
        another shape than before.
        """
        named = values if isinstance(values, Mapping) else {_ONE: values}
        arrays = {name: as_floats(value, f"value {name!r}") for name, value in named.items()}
        for name, array in arrays.items():
            if name in self._averages:
                check_shape(array, self._averages[name].shape, f"value {name!r}")
        decay = self._decay_now()
        with np.errstate(all="ignore"):
            for name, array in arrays.items():
                self._move(name, array, decay)

    def average(self, name: str = _ONE) -> "float | Floats | None":
        """The average of that name: a float, or a copy of the array; None if there is none yet, as in TensorFlow."""
        found = self._averages.get(name)
        if found is None:
            return None
        if not self.zero_debias:
            return shown(found)
        with np.errstate(all="ignore"):
            return shown(np.asarray(found / (1.0 - self._missing[name])))

    @property
    def averages(self) -> dict[str, "float | Floats"]:
        """Every average by name."""
        return {name: found for name in self._averages if (found := self.average(name)) is not None}

    def reset(self) -> None:
        """Begin anew, without a value."""
        self._averages.clear()
        self._missing.clear()

    def state_dict(self) -> dict[str, Any]:
        """All that it has taken in, for the checkpoint: copies of arrays, and numbers. Decay is no part of it."""
        return {
            "averages": {name: array.copy() for name, array in self._averages.items()},
            "missing": dict(self._missing),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state. Raises ConfigurationError, before anything is changed, if it is none."""
        averages, missing = saved(state, "averages", "missing")
        if not isinstance(averages, Mapping) or not isinstance(missing, Mapping):
            raise ConfigurationError("not such a state: averages and missing are dictionaries")
        if set(missing) != (set(averages) if self.zero_debias else set()):
            raise ConfigurationError("not such a state: it was saved with another zero_debias")
        arrays = {name: as_floats(array, f"average {name!r}").copy() for name, array in averages.items()}
        weights = {name: finite(f"weight of {name!r}", weight) for name, weight in missing.items()}
        self._averages, self._missing = arrays, weights

    def _decay_now(self) -> float:
        source = self._num_updates
        if source is None:
            return self.decay
        n = whole(0, "num_updates", source() if callable(source) else source)
        return min(self.decay, (1.0 + n) / (10.0 + n))

    def _move(self, name: str, array: Floats, decay: float) -> None:
        found = self._averages.get(name)
        if found is None:
            found = self._averages[name] = np.zeros_like(array) if self.zero_debias else array.copy()
            if self.zero_debias:
                self._missing[name] = 1.0
        found -= (1.0 - decay) * (found - array)
        if self.zero_debias:
            self._missing[name] *= decay


class RunningMean:
    """The mean of all values so far, of any shape, in float64: mean ← mean + (value - mean) / n.

    That is mean · (1 - 1/n) + value / n, written so that no sum grows, and values far from 0 keep their digits.

    A NaN or an infinity makes that element of the mean one that is not finite, until `reset`. Not thread-safe.
    """

    def __init__(self) -> None:
        self._mean: Floats | None = None
        self._count = 0

    @property
    def count(self) -> int:
        """How many values it has taken in."""
        return self._count

    @property
    def mean(self) -> "float | Floats | None":
        """The mean: a float, or a copy of the array; None before the first value."""
        return None if self._mean is None else shown(self._mean)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of its values; None before the first."""
        return None if self._mean is None else self._mean.shape

    def norm(self) -> float:
        """The Euclidean norm of the mean; 0 before the first value."""
        return 0.0 if self._mean is None else norm(self._mean)

    def update(self, value: Any) -> None:
        """Take in a value. Raises ConfigurationError (a ValueError) for no numbers, or another shape than before."""
        array = as_floats(value, "the value")
        if self._mean is None:
            self._mean = np.zeros_like(array)
        check_shape(array, self._mean.shape, "the value")
        self._count += 1
        with np.errstate(all="ignore"):
            self._mean += (array - self._mean) / self._count

    def reset(self) -> None:
        """Begin anew, without a value; the next one may have another shape."""
        self._mean, self._count = None, 0

    def state_dict(self) -> dict[str, Any]:
        """All that it has taken in, for the checkpoint: a copy of the mean (or None), and the count."""
        return {"mean": None if self._mean is None else self._mean.copy(), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state. Raises ConfigurationError, before anything is changed, if it is none."""
        mean, count = saved(state, "mean", "count")
        number = saved_count(count)
        if (mean is None) != (number == 0):
            raise ConfigurationError(f"not such a state: a count of {number} and {'no' if mean is None else 'a'} mean")
        self._mean, self._count = None if mean is None else as_floats(mean, "the mean").copy(), number
