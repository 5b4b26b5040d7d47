"""Arrays of any library as numpy has them: read at once, because the training goes on to change them."""

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tallyboard.errors import InvalidReportError
from tallyboard.wire import limits

Array: TypeAlias = npt.NDArray[Any]

LATER_BYTES_MAX: Final = 7 * limits.MIB
"""Larger arrays are encoded by the thread that reports them, so that what waits in memory is bounded; a PNG of as many
pixels is at most some hundredths larger, and below limits.BLOB_BYTES_MAX."""
_NUMBERS: Final = "biuf"


def as_array(values: Any, what: str) -> Array:
    """The numbers in an array, a tensor (of any device) or nested lists. Raises InvalidReportError.

    The array may share memory with the caller's.
    """
    try:
        for step in ("detach", "cpu"):  # torch, which numpy can't read while gradients or a GPU hold it
            method = getattr(values, step, None)
            values = method() if callable(method) else values
        if "bfloat16" in str(getattr(values, "dtype", "")):  # which numpy does not have
            values = values.float() if callable(getattr(values, "float", None)) else values.astype("float32")
        array = np.asarray(values)
    except Exception as error:  # a foreign array may raise anything
        raise InvalidReportError(f"{what}: {type(values).__name__} is no array ({error})") from error
    if array.dtype.kind not in _NUMBERS:
        raise InvalidReportError(f"{what}: an array of {array.dtype}, and no numbers")
    return array
