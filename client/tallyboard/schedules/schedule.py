"""A schedule: a number for each step, as a value that can be compared, printed, pickled and bound to a counter."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from tallyboard.counter import Counter
from tallyboard.schedules.bound import LEARNING_RATE, Bound
from tallyboard.schedules.checks import Floats, many_steps, one_step
from tallyboard.wire import limits


class Schedule(ABC):
    """A pure function of a step; get one from `exponential_decay` and its like.

    Frozen; equal to another of the same kind and parameters; its repr is the call that makes it.
    """

    __slots__ = ()
    kind: ClassVar[str]

    @abstractmethod
    def at(self, step: int) -> float:
        """The value at a step that is known to be one: an int, 0 or more."""

    @overload
    def __call__(self, step: "int | np.integer[Any]") -> float: ...
    @overload
    def __call__(self, step: npt.NDArray[Any] | Sequence[int]) -> Floats: ...
    def __call__(self, step: Any) -> "float | Floats":
        """The value at a step, or those at many: float64 of the same shape, each what its step alone would give.

        Raises ConfigurationError (a ValueError) for a step that is negative, no whole number, or not finite.
        """
        if type(step) is int and 0 <= step <= limits.STEP_MAX:
            return self.at(step)
        if isinstance(step, np.ndarray | Sequence) and not isinstance(step, str | bytes):
            steps = many_steps(step)
            return np.array([self.at(each) for each in steps.ravel().tolist()], np.float64).reshape(steps.shape)
        return self.at(one_step(step))

    def bind(self, counter: Counter, tag: str = LEARNING_RATE, log: bool = False) -> Bound:
        """Its value wherever a counter stands; with `log`, reported as `tag` at the first read of each step.

        Raises ConfigurationError if `tag` can't be one.
        """
        return Bound(self, counter, tag, log)

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # each kind is a dataclass
        return f"{self.kind}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in fields)})"


def power(base: float, exponent: float) -> float:
    """base ** exponent of numbers that are 0 or more; infinity where that is too large for a float."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
