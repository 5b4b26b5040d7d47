"""What may stand in a report: scalars, steps and times of any numeric type become plain numbers, or are refused."""

import math
import operator
from collections.abc import Mapping
from struct import Struct
from typing import Any, Final

from tallyboard.errors import InvalidReportError
from tallyboard.wire import InvalidNameError, check_tag, limits, names

_DOUBLE: Final = Struct("<d")


def as_scalars(scalars: object) -> tuple[dict[str, float], list[str]]:
    """The scalars that can be sent, and a complaint about each that can't.

    A value is anything that is one number: int, float, bool, numpy scalars and arrays or tensors of one element.
    Raises InvalidReportError if it is no mapping at all.
    """
    if not isinstance(scalars, Mapping):
        kind = type(scalars).__name__
        raise InvalidReportError(f'log takes a dictionary of scalars such as {{"loss": 0.5}}, not {kind}')
    good: dict[str, float] = {}
    complaints: list[str] = []
    for tag, value in scalars.items():
        try:
            good[_tag(tag)] = _value(tag, value)
        except InvalidReportError as error:
            complaints.append(str(error))
    return good, complaints


def as_tag(tag: object) -> str:
    """A tag. Raises InvalidReportError."""
    return _tag(tag)


def as_step(step: object) -> int:
    """A step as int: whole numbers of any type. Raises InvalidReportError."""
    try:
        number = operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        number = _whole(step)
    if not 0 <= number <= limits.STEP_MAX:
        raise InvalidReportError(f"{number} is not a step; steps are 0 to 2^63-1")
    return number


def moved_on(value: int, by: object) -> int:
    """The step that lies so many further than a value. Raises InvalidReportError."""
    try:
        step = value + by  # type: ignore[operator]
    except Exception as error:  # a foreign type may raise anything
        raise InvalidReportError(f"{shown(by)} is no number of steps") from error
    return as_step(step)


def as_counter(name: object) -> str:
    """The name of a counter. Raises InvalidReportError or InvalidNameError."""
    if not isinstance(name, str):
        raise InvalidReportError(f"a counter is given by its name, not as {shown(name)}")
    return names.check_any_counter(name)


def as_at(at: object) -> dict[str, int]:
    """Where other counters stood. Raises InvalidReportError or InvalidNameError."""
    if at is not None and not isinstance(at, Mapping):
        raise InvalidReportError(f'at takes a dictionary of counters such as {{"epoch": 3}}, not {shown(at)}')
    return {names.check_counter(as_counter(name)): as_step(step) for name, step in (at or {}).items()}


def as_wall_time(wall_time: object) -> float:
    """Seconds since the epoch. Raises InvalidReportError unless finite."""
    seconds = _value("wall_time", wall_time)
    if not math.isfinite(seconds):
        raise InvalidReportError(f"wall_time {seconds} is not finite; it is in seconds since the epoch")
    return seconds


def _tag(tag: object) -> str:
    try:
        return check_tag(tag) if isinstance(tag, str) else check_tag("")
    except InvalidNameError as error:
        detail = str(error) if isinstance(tag, str) else f"tag {tag!r} is no string"
        raise InvalidReportError(detail) from error


def _value(tag: object, value: Any) -> float:
    try:
        packed = _DOUBLE.pack(value)
    except Exception as error:  # a foreign __float__ may raise anything
        number = _single(value)
        if number is None:
            raise InvalidReportError(f"{tag!r} is {shown(value)}, which is not one number") from error
        return number
    return float(_DOUBLE.unpack(packed)[0])


def _single(value: Any) -> float | None:
    """The number in an array that holds one, of whatever shape; None if it is no such."""
    item = getattr(value, "item", None)
    try:
        return float(_DOUBLE.unpack(_DOUBLE.pack(item()))[0]) if callable(item) else None
    except Exception:  # noqa: BLE001 - as above; the complaint is the caller's
        return None


def _whole(step: object) -> int:
    try:
        number = float(step) if not isinstance(step, str | bytes) else math.nan  # type: ignore[arg-type]
    except Exception as error:  # a foreign __float__ may raise anything
        raise InvalidReportError(f"{shown(step)} is not a step") from error
    if not number.is_integer():
        raise InvalidReportError(f"{shown(step)} is not a step; steps are whole numbers 0, 1, 2, …")
    return int(number)


def shown(value: object) -> str:
    """A short description for a message: of large objects the type alone."""
    kind = type(value).__name__
    if isinstance(value, int | float | str | bytes | None):
        return f"{kind} {value!r:.60}"
    shape = getattr(value, "shape", None)
    return f"{kind} of shape {tuple(shape)}" if shape else kind
