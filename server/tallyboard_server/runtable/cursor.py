"""Where a page ended, as the opaque text that asks for the next one."""

import base64
import binascii
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tallyboard_server.runtable.ordering import Kind, Rank
from tallyboard_server.runtable.parse import SortKey


class CursorError(ValueError):
    """No cursor of this API, or one of another question."""


class _Sealed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A place; sort: a checksum of what the table is ordered by."""

    sort: int
    now: float
    ranks: list[tuple[int, int | float | str]]
    name: str


@dataclass(slots=True, frozen=True)
class Place:
    """The last row of a page of a sorted table: its ranks and name, and the time that ages were counted from."""

    ranks: Sequence[Rank]
    name: str
    now: float


def seal_name(name: str) -> str:
    """The cursor of a page in the order of names that ended with this one."""
    return _sealed(name.encode())


def open_name(cursor: str) -> str:
    """The name that seal_name sealed. Raises CursorError."""
    try:
        return _opened(cursor).decode()
    except UnicodeError as error:
        raise _wrong() from error


def seal_place(place: Place, sort: Sequence[SortKey]) -> str:
    """The cursor of a page of a sorted table."""
    ranks = [(kind, str(value) if _has_no_json(value) else value) for kind, value in place.ranks]
    return _sealed(b"\xff" + msgspec.json.encode(_Sealed(_checksum(sort), place.now, ranks, place.name)))


def open_place(cursor: str, sort: Sequence[SortKey]) -> Place:
    """The place that seal_place sealed for the same sort. Raises CursorError."""
    data = _opened(cursor)
    if data[:1] != b"\xff":
        raise _wrong()
    try:
        sealed = msgspec.json.decode(data[1:], type=_Sealed)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _wrong() from error
    if sealed.sort != _checksum(sort) or len(sealed.ranks) != len(sort):
        raise CursorError("the cursor of a table in another order; leave it out to start over")
    try:
        return Place([_unpacked(Kind(kind), value) for kind, value in sealed.ranks], sealed.name, sealed.now)
    except ValueError as error:
        raise _wrong() from error


def _unpacked(kind: Kind, value: int | float | str) -> Rank:
    """A rank as it was; whoever has changed the cursor, numbers are where numbers are compared."""
    if kind in (Kind.TEXT, Kind.OTHER):
        return kind, str(value)
    return kind, float(value) if isinstance(value, str) else value


def _has_no_json(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _checksum(sort: Sequence[SortKey]) -> int:
    return zlib.crc32(",".join(key.text for key in sort).encode())


def _sealed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _opened(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong() from error


def _wrong() -> CursorError:
    return CursorError("not a cursor of this API; leave it out to start over")
