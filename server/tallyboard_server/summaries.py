"""Whether a blob is what TensorBoard's readers take it for, so that none of them stumbles over it.

A record that is no valid protocol buffer ends the reading of its file; a tensor whose shape promises more than it
holds makes a reader reserve the memory; a histogram whose columns differ in length stops the Python reader for all
runs. What passes here does none of that.
"""

import math
from typing import Any, Final

from google.protobuf.message import DecodeError
from tensorboardX.proto import summary_pb2

from tallyboard.wire import Blob, Columns, protos
from tallyboard.wire.limits import BLOB_BYTES_MAX, KIB
from tallyboard.wire.protos import MalformedError
from tallyboard.wire.summaries import TENSOR_FIELD, TEXT, blob_field
from tallyboard.wire.tensors import STRING_TYPE

_FIELDS_MAX: Final = 10_000
"""Fields of one tensor, each a string of its own or a column of numbers."""
_SHAPE_BYTES_MAX: Final = 4 * KIB
_SHAPE_FIELD: Final = 2
_RESOURCES: Final = (14, 15)
"""Resource handles and variants: they stand for objects of a process that is gone."""

_NUMBERS: Final = {
    1: ("float_val", 4), 2: ("double_val", 8), 3: ("int_val", 4), 4: ("int_val", 1), 5: ("int_val", 2),
    6: ("int_val", 1), 9: ("int64_val", 8), 10: ("bool_val", 1), 14: ("half_val", 2), 17: ("int_val", 2),
    19: ("half_val", 2),
}  # fmt: skip
"""By number of tensorflow.DataType: the field that holds numbers one by one, and bytes of each in tensor_content."""


def first_fault(columns: Columns) -> tuple[int, str] | None:
    """The first row of a column of blobs that readers could not take, and why; None if there is none."""
    checked: set[bytes] = set()
    for row, blob in enumerate(columns.blobs):
        if blob.hash in checked:
            continue
        try:
            check_blob(blob, columns.kind)
        except MalformedError as error:
            return row, str(error)
        checked.add(blob.hash)
    return None


def check_blob(blob: Blob, kind: str) -> None:
    """Raise MalformedError if a blob of some kind is nothing that readers can take."""
    if blob_field(blob.data) == TENSOR_FIELD:
        _check_outline(memoryview(blob.data))
    try:
        value = summary_pb2.Summary.Value.FromString(blob.data)
    except DecodeError as error:
        raise MalformedError(f"not a Summary.Value: {error}") from error
    size = value.ByteSize()
    value.DiscardUnknownFields()
    if value.ByteSize() != size:
        raise MalformedError("it holds fields that TensorBoard does not know")
    match value.WhichOneof("value"):
        case "tensor":
            _check_tensor(value.tensor, kind)
        case "histo":
            _check_histogram(value.histo)


def _check_outline(blob: memoryview) -> None:
    """A tensor's fields as such: what must not be taken apart before it is known to be small."""
    (tensor,) = protos.read_fields(blob, "the value", fields_max=1)
    for field in protos.read_fields(tensor.data, "the tensor", fields_max=_FIELDS_MAX):
        if field.number == _SHAPE_FIELD and len(field.whole) > _SHAPE_BYTES_MAX:
            raise MalformedError(f"a tensor shape of {len(field.whole)} bytes; at most {_SHAPE_BYTES_MAX}")
        if field.number in _RESOURCES:
            raise MalformedError("a tensor of resources or variants has no values to show")


def _check_tensor(tensor: Any, kind: str) -> None:
    if tensor.tensor_shape.unknown_rank or any(dim.size < 0 for dim in tensor.tensor_shape.dim):
        raise MalformedError("a tensor of unknown shape")
    count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype == STRING_TYPE:
        if len(tensor.string_val) != count:
            raise MalformedError(f"a tensor of {count} strings holds {len(tensor.string_val)}")
        if kind == TEXT:
            _check_text(tensor.string_val)
        return
    if tensor.dtype not in _NUMBERS:
        raise MalformedError(f"a tensor of type {tensor.dtype}; known are {sorted((*_NUMBERS, STRING_TYPE))}")
    name, width = _NUMBERS[tensor.dtype]
    if count * width > BLOB_BYTES_MAX:
        raise MalformedError(f"a tensor of {count} numbers has {count * width} bytes; at most {BLOB_BYTES_MAX}")
    held = len(getattr(tensor, name))
    if tensor.tensor_content:
        if held or len(tensor.tensor_content) != count * width:
            raise MalformedError(f"a tensor of {count} numbers holds {len(tensor.tensor_content)} bytes of them")
    elif held != count and not (held == 1 and count):  # one number may stand for all
        raise MalformedError(f"a tensor of {count} numbers holds {held}")


def _check_text(strings: Any) -> None:
    for string in strings:
        try:
            string.decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"text that is not valid UTF-8: {error.reason}") from error


def _check_histogram(histogram: Any) -> None:
    if len(histogram.bucket) != len(histogram.bucket_limit):
        raise MalformedError(
            f"a histogram of {len(histogram.bucket)} buckets with {len(histogram.bucket_limit)} bucket limits"
        )
