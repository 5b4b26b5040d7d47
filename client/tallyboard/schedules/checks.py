"""What is a step, and a number of steps: plain numbers, or refused with what would do."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tallyboard.collect.reports import as_step
from tallyboard.errors import ConfigurationError, InvalidReportError
from tallyboard.parameters import LARGEST, finite
from tallyboard.wire import limits

Floats: TypeAlias = npt.NDArray[np.float64]


def period(name: str, value: Any) -> float:
    """A parameter that counts steps, more than 0 of them; an int if it is whole. Raises ConfigurationError."""
    number = finite(name, value)
    if number < 1 / LARGEST:
        raise ConfigurationError(f"{name}={number:g}: give a number of steps above 0")
    return int(number) if number.is_integer() else number


def one_step(step: Any) -> int:
    """A step: a whole number of any type. Raises ConfigurationError."""
    try:
        return as_step(step)
    except InvalidReportError as error:
        raise ConfigurationError(f"a schedule was asked for its value at what is no step: {error}") from error


def many_steps(steps: Any) -> npt.NDArray[np.int64]:
    """Steps of any shape and numeric type. Raises ConfigurationError, naming the first that is none."""
    array = np.asarray(steps)
    if array.size == 0:
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iuf":
        raise ConfigurationError(f"an array of {array.dtype} holds no steps; give whole numbers 0, 1, 2, …")
    wrong = ~((array >= 0) & (array <= limits.STEP_MAX))
    if array.dtype.kind == "f":
        wrong |= (array != np.floor(array)) | (array >= float(limits.STEP_MAX))
    if wrong.any():
        first = array[wrong][0]
        raise ConfigurationError(f"{first} is not a step; steps are whole numbers 0, 1, 2, …")
    return array.astype(np.int64)
