"""The number in a TensorProto that stands for one scalar, which is how tf.summary writes them."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tallyboard.wire import protos
from tallyboard.wire.protos import Field, MalformedError

STRING_TYPE: Final = 7

_CONTENT_FIELD: Final = 4
_SHAPE_FIELD: Final = 2
_FIELDS_MAX: Final = 16
_DIMENSIONS_MAX: Final = 16


class _Type(NamedTuple):
    """How numbers of a DataType stand in tensor_content, and in which field they stand one by one."""

    layout: str
    field: int


_TYPES: Final = {
    1: _Type("<f4", 5),
    2: _Type("<f8", 6),
    3: _Type("<i4", 7),
    4: _Type("<u1", 7),
    5: _Type("<i2", 7),
    6: _Type("<i1", 7),
    9: _Type("<i8", 10),
    10: _Type("?", 11),
    17: _Type("<u2", 7),
    19: _Type("<f2", 13),
    22: _Type("<u4", 16),
    23: _Type("<u8", 17),
}
"""By number of tensorflow.DataType."""


def scalar_of(tensor: memoryview) -> float:
    """The one number of a serialised TensorProto. Raises MalformedError if it holds none, several, or no number."""
    number, fields = 0, []
    for field in protos.read_fields(tensor, "the tensor", fields_max=_FIELDS_MAX):
        if field.number == 1:
            number = protos.expect(field, protos.VARINT, "dtype").varint
        elif field.number == _SHAPE_FIELD:
            _check_shape(protos.expect(field, protos.SIZED, "tensor_shape").data)
        else:
            fields.append(field)
    kind = _TYPES.get(number)
    if kind is None:
        raise MalformedError(f"a scalar of type {number}; it takes a number")
    found = [value for field in fields for value in _values(field, kind)]
    if len(found) != 1:
        raise MalformedError(f"a scalar of {len(found)} values; it takes one")
    return float(found[0])


def string_tensor(*strings: bytes) -> bytes:
    """A serialised TensorProto of shape [n] that holds n strings of bytes."""
    size = b"\x08" + protos.varint(len(strings)) if strings else b""
    shape = protos.sized(2, size)
    values = b"".join(protos.sized(8, string) for string in strings)
    return bytes((1 << 3, STRING_TYPE)) + protos.sized(_SHAPE_FIELD, shape) + values


def _check_shape(shape: memoryview) -> None:
    for dimension in protos.read_fields(shape, "tensor_shape", fields_max=_DIMENSIONS_MAX):
        if dimension.number != 2:
            raise MalformedError("a scalar of unknown shape")
        for field in protos.read_fields(
            protos.expect(dimension, protos.SIZED, "dim").data, "dim", fields_max=_FIELDS_MAX
        ):
            if field.number == 1 and protos.int64(field, "size") != 1:
                raise MalformedError("a scalar of more than one element")


def _values(field: Field, kind: _Type) -> npt.NDArray[Any] | list[Any]:
    """The numbers in a field, if it is one of those that hold them; at most two of varints, which is one too many."""
    if field.number == _CONTENT_FIELD:
        return _column(field, kind.layout)
    if field.number != kind.field:
        return []
    if kind.layout in ("<f4", "<f8"):
        return _column(field, kind.layout)
    varints = [field.varint]
    if field.wire_type == protos.SIZED:
        varints = protos.read_varints(field.data, "the tensor's values", count_max=2)
    if kind.layout == "<f2":
        return np.array(varints, np.uint64).astype("<u2").view("<f2")
    return np.array(varints, np.uint64).astype(kind.layout)


def _column(field: Field, layout: str) -> npt.NDArray[Any]:
    if len(field.data) % np.dtype(layout).itemsize:
        raise MalformedError("the tensor's values are cut")
    return np.frombuffer(field.data, layout)
