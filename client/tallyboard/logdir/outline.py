"""Where in an Event of scalars its numbers stand: what is left is the same in every Event of that layout."""

from typing import Final, NamedTuple

from tallyboard.wire import protos, summaries
from tallyboard.wire.protos import Field, MalformedError

_FIELDS_MAX: Final = 16
_VALUES_MAX: Final = 100_000
_STEP_BYTES_MAX: Final = 9
"""A varint of ten bytes is negative, or no step at all."""
_WIDTHS: Final = {1: 4, 2: 8}
"""Bytes of a number, by those types of tensors whose numbers stand as they are: float and double."""


class Number(NamedTuple):
    """A value's place in the Event, and its bytes: a float32 or a float64."""

    at: int
    width: int


class Outline(NamedTuple):
    """An Event's size, and where its wall time (8 bytes), its step (a varint) and its numbers stand.

    step_bytes: 0 if it has no step, which means 0.
    """

    size: int
    wall_time_at: int
    step_at: int
    step_bytes: int
    numbers: tuple[Number, ...]


def outline(event: memoryview) -> Outline | None:
    """The outline of an Event with a wall time and nothing but scalars; None for any other."""
    try:
        return _outline(event)
    except MalformedError:
        return None


def _outline(event: memoryview) -> Outline | None:
    wall_time_at = step_at = step_bytes = 0
    numbers: tuple[Number, ...] | None = None
    seen: set[int] = set()
    at = 0
    for field in protos.read_fields(event, "the event", fields_max=_FIELDS_MAX):
        at += len(field.whole)
        begin = at - len(field.data)
        if field.number in seen:
            return None
        seen.add(field.number)
        match field.number, field.wire_type:
            case 1, protos.FIXED64:
                wall_time_at = begin
            case 2, protos.VARINT:
                step_bytes = len(field.data)
                step_at = begin
            case 5, protos.SIZED:
                numbers = _numbers(field.data, begin)
            case _:
                return None
    if not wall_time_at or not numbers or step_bytes > _STEP_BYTES_MAX:
        return None
    return Outline(len(event), wall_time_at, step_at, step_bytes, numbers)


def _numbers(summary: memoryview, at: int) -> tuple[Number, ...] | None:
    found: list[Number] = []
    for field in protos.read_fields(summary, "the summary", fields_max=_VALUES_MAX):
        at += len(field.whole)
        if (field.number, field.wire_type) != (1, protos.SIZED):
            return None
        number = _number(field.data, at - len(field.data))
        if number is None:
            return None
        found.append(number)
    return tuple(found)


def _number(value: memoryview, at: int) -> Number | None:
    found: Number | None = None
    for field in protos.read_fields(value, "the value", fields_max=_FIELDS_MAX):
        at += len(field.whole)
        begin = at - len(field.data)
        if field.number in (1, 7, 9):
            continue
        if found is not None:
            return None
        match field.number, field.wire_type:
            case 2, protos.FIXED32:
                found = Number(begin, 4)
            case summaries.TENSOR_FIELD, protos.SIZED:
                found = _in_tensor(field.data, begin)
        if found is None:
            return None
    return found


def _in_tensor(tensor: memoryview, at: int) -> Number | None:
    kind, found = 0, None
    for field in protos.read_fields(tensor, "the tensor", fields_max=_FIELDS_MAX):
        at += len(field.whole)
        if field.number == 1 and field.wire_type == protos.VARINT:
            kind = field.varint
        elif field.number in (4, 5, 6):
            if found is not None:
                return None
            found = Number(at - len(field.data), len(field.data))
            if not _holds_one(field, kind):
                return None
        elif field.number not in (2, 3):
            return None
    return found


def _holds_one(field: Field, kind: int) -> bool:
    """Whether a field is one number of the tensor's type, which stands before it."""
    width = _WIDTHS.get(kind)
    own = 5 if kind == 1 else 6
    wire_types = {protos.SIZED, protos.FIXED32 if kind == 1 else protos.FIXED64}
    if field.number == 4:
        own, wire_types = 4, {protos.SIZED}
    return width == len(field.data) and field.number == own and field.wire_type in wire_types
