"""TensorProto and SummaryMetadata, written field by field.

After tensorflow/core/framework/{tensor,tensor_shape,summary}.proto, which TensorBoard carries as
tensorboard/compat/proto.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tallyboard.wire import Float64, protos, summaries
from tallyboard.wire.tensors import STRING_TYPE

_DOUBLE_TYPE: Final = 2
_TENSOR_CLASS: Final = 2
_BLOB_SEQUENCE_CLASS: Final = 3


def strings(values: Sequence[bytes]) -> bytes:
    """The tensor field of a Summary.Value: strings, of shape [n]."""
    body = _head(STRING_TYPE, (len(values),)) + b"".join(protos.sized(8, value) for value in values)
    return protos.sized(summaries.TENSOR_FIELD, body)


def doubles(values: Float64) -> bytes:
    """The tensor field of a Summary.Value: float64 of any shape."""
    content = protos.sized(4, np.ascontiguousarray(values, "<f8").tobytes())
    return protos.sized(summaries.TENSOR_FIELD, _head(_DOUBLE_TYPE, values.shape) + content)


def tensor_metadata(plugin: str) -> bytes:
    """The SummaryMetadata of a tag whose points are tensors for a plugin."""
    return summaries.plain_metadata(plugin) + _enum(4, _TENSOR_CLASS)


def blob_sequence_metadata(plugin: str) -> bytes:
    """The SummaryMetadata of a tag whose points are lists of files for a plugin."""
    return summaries.plain_metadata(plugin) + _enum(4, _BLOB_SEQUENCE_CLASS)


def _head(data_type: int, shape: Sequence[int]) -> bytes:
    dimensions = b"".join(protos.sized(2, _enum(1, size)) for size in shape)
    return _enum(1, data_type) + protos.sized(2, dimensions)


def _enum(number: int, value: int) -> bytes:
    return protos.varint(number << 3 | protos.VARINT) + protos.varint(value)
