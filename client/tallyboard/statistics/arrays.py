"""What statistics are made of: numbers of any shape as float64, and saved states that are checked first."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tallyboard.errors import ConfigurationError, InvalidReportError
from tallyboard.summaries.arrays import as_array

Floats: TypeAlias = npt.NDArray[np.float64]


def as_floats(values: Any, what: str) -> Floats:
    """Numbers in an array, a tensor of any device, nested lists or one number. Raises ConfigurationError.

    The array may share memory with the caller's.
    """
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        return values
    try:
        return np.asarray(as_array(values, what), np.float64)
    except InvalidReportError as error:
        raise ConfigurationError(str(error)) from error


def check_shape(values: Floats, shape: tuple[int, ...], what: str) -> None:
    """Raises ConfigurationError unless values have the shape that the ones before had."""
    if values.shape != shape:
        raise ConfigurationError(
            f"{what} has shape {values.shape}, and had {shape} before; reset it, or keep one for each shape"
        )


def shown(values: Floats) -> "float | Floats":
    """A float of one number, a copy of an array."""
    return float(values) if values.shape == () else values.copy()


def norm(values: Floats) -> float:
    """Euclidean, of all elements as one vector; infinite from about 1e154 on, where squares are."""
    with np.errstate(all="ignore"):
        return float(np.linalg.norm(values.ravel()))


def saved(state: Any, *keys: str) -> list[Any]:
    """These entries of a saved state. Raises ConfigurationError if it has others, or lacks one."""
    if not isinstance(state, Mapping) or set(state) != set(keys):
        found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise ConfigurationError(f"not such a state: it has to hold {sorted(keys)}, and is {found}")
    return [state[key] for key in keys]


def saved_count(count: Any) -> int:
    """A number of values, out of a saved state. Raises ConfigurationError."""
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
        raise ConfigurationError(f"not such a state: {count!r:.60} is no count")
    return int(count)
