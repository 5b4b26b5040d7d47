"""Values, and columns of values, in PostgreSQL's binary format: by the kinds that tables.py names, a column at a time.

psycopg's own adaptation asks each value for its type, which takes a fifth of the time of a small group of reports.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from psycopg.pq.abc import PGresult

from tallyboard_server.store.sql.tables import Kind

ARRAY_OIDS: Final[dict[Kind, int]] = {"int": 1016, "float": 1022, "text": 1009, "bytes": 1001}
"""int8[], float8[], text[], bytea[]."""

_OIDS: Final[dict[Kind, int]] = {"int": 20, "float": 701, "text": 25, "bytes": 17}
INT_OID: Final = _OIDS["int"]
_HEAD: Final = struct.Struct(">iiiii")
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = _LENGTH.pack(-1)
_FIXED: Final = {
    "int": np.dtype([("length", ">i4"), ("value", ">i8")]),
    "float": np.dtype([("length", ">i4"), ("value", ">f8")]),
}
_ONE: Final[dict[Kind, Callable[[Any], bytes]]] = {
    "int": struct.Struct(">q").pack,
    "float": struct.Struct(">d").pack,
    "text": str.encode,
    "bytes": bytes,
}


_DECODE: Final[dict[int, Callable[[bytes], Any]]] = {
    20: lambda data: int.from_bytes(data, "big", signed=True),
    701: lambda data: struct.unpack(">d", data)[0],
    25: bytes.decode,
    17: bytes,
}


def array(kind: Kind, values: Sequence[Any]) -> bytes:
    """An array of one dimension; None is NULL."""
    has_nulls = None in values
    head = _HEAD.pack(1, has_nulls, _OIDS[kind], len(values), 1)
    if kind in _FIXED and not has_nulls:
        cells = np.empty(len(values), _FIXED[kind])
        cells["length"], cells["value"] = 8, values
        return head + cells.tobytes()
    parts = [head]
    encode = _ONE[kind]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            data = encode(value)
            parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def as_bytes(value: int) -> bytes:
    """An int8 among a statement's values."""
    return value.to_bytes(8, "big", signed=True)


def rows_of(result: PGresult) -> list[tuple[Any, ...]]:
    """All rows of a result, in binary form, whose columns are of the kinds that tables have."""
    columns = range(result.nfields)
    decode = [_DECODE[result.ftype(column)] for column in columns]
    return [
        tuple(None if (data := result.get_value(row, column)) is None else decode[column](data) for column in columns)
        for row in range(result.ntuples)
    ]


def as_int(data: bytes | None) -> int:
    """An int8 of a result."""
    return int.from_bytes(data or b"", "big", signed=True)


def as_text(data: bytes | None) -> str:
    """A text of a result."""
    return (data or b"").decode()
