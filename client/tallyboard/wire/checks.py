"""What the checks of a request's parts share: errors that name the culprit, and bytes as columns."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from tallyboard.wire import limits, names
from tallyboard.wire.columns import Columns, Float64, Int64

NO_WALL_TIME: Final = "must be finite seconds since the epoch"


class InvalidBatchError(ValueError):
    """A request that can't be a batch. `field` is the path of the culprit (`$.blocks[0].steps`)."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class UndecodableBodyError(InvalidBatchError):
    """Bytes that are not JSON or MessagePack at all."""


def named(path: str, check: Callable[..., object], *name: object) -> None:
    """Check a name, with an error that says where it stands."""
    try:
        check(*name)
    except names.InvalidNameError as error:
        raise InvalidBatchError(path, str(error)) from error


def check_text(text: str, path: str, bytes_max: int = limits.TEXT_BYTES_MAX) -> None:
    """Raise InvalidBatchError if free text is too long or not valid UTF-8."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidBatchError(path, "not valid UTF-8 (a lone surrogate)") from error
    if size > bytes_max:
        raise InvalidBatchError(path, f"{size} bytes; at most {bytes_max}")


def check_plain_text(text: str, path: str, bytes_max: int = limits.TEXT_BYTES_MAX) -> None:
    """As check_text; U+0000, which no database's text need hold, is refused, too."""
    check_text(text, path, bytes_max)
    if "\0" in text:
        raise InvalidBatchError(path, "the character U+0000 can't be in it")


def whole_step(step: int | float, path: str) -> int:
    """A step as int; an integral float counts as the step it says. Raises InvalidBatchError."""
    if isinstance(step, float) and not step.is_integer():
        raise InvalidBatchError(path, f"{step} is not a whole number; steps count 0, 1, 2, …")
    if not 0 <= step <= limits.STEP_MAX:
        raise InvalidBatchError(path, f"{step} is not a step (0 to 2^63-1)")
    return int(step)


def int_column(data: memoryview, path: str) -> Int64:
    """Little-endian int64[n]."""
    return np.frombuffer(_whole(data, path), dtype="<i8")


def float_column(data: memoryview, path: str) -> Float64:
    """Little-endian float64[n]."""
    return np.frombuffer(_whole(data, path), dtype="<f8")


def at_columns(at: dict[str, memoryview], path: str) -> dict[str, Int64]:
    """Where other counters stood, by their names."""
    found = {}
    for name, column in at.items():
        named(f"{path}.at", names.check_counter, name)
        found[name] = int_column(column, f"{path}.at.{name}")
    return found


def check_columns(columns: Columns, path: str) -> None:
    """Raise InvalidBatchError for columns of unequal lengths, steps below 0 and times that are none."""
    n = len(columns)
    if len(columns.wall_times) != n:
        raise InvalidBatchError(f"{path}.wall_times", f"{len(columns.wall_times)} wall times for {n} steps")
    if not np.isfinite(columns.wall_times).all():
        raise InvalidBatchError(f"{path}.wall_times", NO_WALL_TIME)
    if columns.steps.min() < 0:
        raise InvalidBatchError(f"{path}.steps", f"{columns.steps.min()} is negative; steps count from 0")
    for name, column in columns.at.items():
        if len(column) != n:
            raise InvalidBatchError(f"{path}.at.{name}", f"{len(column)} values for {n} steps")
        if column.min() < 0:
            raise InvalidBatchError(f"{path}.at.{name}", f"{column.min()} is negative; steps count from 0")


def _whole(data: memoryview, path: str) -> memoryview:
    if len(data) % 8:
        raise InvalidBatchError(path, f"{len(data)} bytes are no whole number of 8-byte little-endian values")
    return data


def view(column: Any, dtype: str) -> memoryview:
    """A column as little-endian bytes."""
    return np.ascontiguousarray(column, dtype=dtype).reshape(-1).view(np.uint8).data
