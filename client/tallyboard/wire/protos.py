"""Reads protocol buffers field by field, with bounds: enough to take an Event apart without believing it.

What a message means is decided by who reads it; here is only how bytes become fields, and what no message may hold.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
SIZED: Final = 2
FIXED32: Final = 5

_VARINT_BYTES_MAX: Final = 10
_MASK: Final = 2**64 - 1
_WIDTHS: Final = {FIXED64: 8, FIXED32: 4}


class MalformedError(ValueError):
    """Bytes that are not the message they should be; the text says why."""


class Field(NamedTuple):
    """One field as it stands in a message. whole: its bytes with the key; data: without key and length; number and
    wire type as the key says. varint: its value if it is one, 0 to 2^64 - 1."""

    number: int
    wire_type: int
    data: memoryview
    whole: memoryview
    varint: int = 0


def read_fields(message: memoryview, what: str, *, fields_max: int) -> Iterator[Field]:
    """The fields of a message in order. Raises MalformedError; `what` names the message there."""
    at, end, count = 0, len(message), 0
    while at < end:
        begin = at
        count += 1
        if count > fields_max:
            raise MalformedError(f"{what} has more than {fields_max} fields")
        key, at = _varint(message, at, what)
        number, wire_type = key >> 3, key & 7
        varint = 0
        data_at = at
        if wire_type == VARINT:
            varint, at = _varint(message, at, what)
        elif wire_type == SIZED:
            size, data_at = _varint(message, at, what)
            at = data_at + size
        elif wire_type in _WIDTHS:
            at += _WIDTHS[wire_type]
        else:
            raise MalformedError(f"{what} has a field of wire type {wire_type}")
        if not number or number >= 1 << 29:
            raise MalformedError(f"{what} has a field number {number}")
        if at > end:
            raise MalformedError(f"{what} ends within its field {number}")
        yield Field(number, wire_type, message[data_at:at], message[begin:at], varint)


def expect(field: Field, wire_type: int, what: str) -> Field:
    """The field, if it has that wire type; MalformedError otherwise."""
    if field.wire_type != wire_type:
        raise MalformedError(f"{what} has wire type {field.wire_type}")
    return field


def text(field: Field, what: str) -> str:
    """A string field's text. MalformedError if it is none, or not valid UTF-8."""
    try:
        return str(expect(field, SIZED, what).data, "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{what} is not valid UTF-8") from error


def float64(field: Field, what: str) -> float:
    """A double field's value."""
    (value,) = struct.unpack("<d", expect(field, FIXED64, what).data)
    return float(value)


def float32(field: Field, what: str) -> float:
    """A float field's value."""
    (value,) = struct.unpack("<f", expect(field, FIXED32, what).data)
    return float(value)


def int64(field: Field, what: str) -> int:
    """An int64 field's value."""
    number = expect(field, VARINT, what).varint
    return number - 2**64 if number >= 2**63 else number


def read_varints(packed: memoryview, what: str, *, count_max: int) -> list[int]:
    """The first `count_max` of packed varints."""
    found: list[int] = []
    at = 0
    while at < len(packed) and len(found) < count_max:
        value, at = _varint(packed, at, what)
        found.append(value)
    return found


def varint(number: int) -> bytes:
    """A varint of a number from 0 to 2^64 - 1."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def sized(number: int, data: bytes) -> bytes:
    """A length-delimited field (text, bytes or a message)."""
    return varint(number << 3 | SIZED) + varint(len(data)) + data


def _varint(message: memoryview, at: int, what: str) -> tuple[int, int]:
    """A varint's value and the offset after it."""
    value = shift = 0
    for byte in message[at : at + _VARINT_BYTES_MAX]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
    raise MalformedError(f"{what} has a number that does not end")
