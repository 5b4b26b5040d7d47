"""What a tag's points are besides scalars: images, text, histograms, … as TensorBoard's Summary.Value holds them.

A *kind* is what TensorBoard calls the plugin name. A point of a tag that is no scalar is a *blob*: the one field of a
serialised Summary.Value that holds its value. Where a scalar has its float64, a blob has its *key*: 62 bits of its
hash, arranged as a finite float64 of moderate size. So whatever keeps, sorts, compares bit for bit, checks or merges
values does so with blobs, too, without knowing them, and a blob that comes again is kept once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard.wire import limits, names, protos
from tallyboard.wire.columns import Blob, Float64
from tallyboard.wire.protos import MalformedError

SCALARS: Final = "scalars"
TENSORS: Final = "tensors"
"""The kind of tensors that came without a plugin name."""
HPARAMS: Final = "hparams"
TEXT: Final = "text"
GRAPHS: Final = "graphs"
GRAPH_TAG: Final = "__run_graph__"
"""The tag under which TensorBoard shows a run's graph."""

IMAGE_FIELD: Final = 4
HISTOGRAM_FIELD: Final = 5
AUDIO_FIELD: Final = 6
TENSOR_FIELD: Final = 8
_OLD_STYLE: Final = {IMAGE_FIELD: "images", HISTOGRAM_FIELD: "histograms", AUDIO_FIELD: "audio"}
VALUE_FIELDS: Final = frozenset({*_OLD_STYLE, TENSOR_FIELD})
"""The fields of Summary.Value whose content can be a blob."""

EMPTY_TENSOR: Final = protos.sized(TENSOR_FIELD, b"\x08\x01" + protos.sized(2, protos.sized(2, b"")))
"""A float tensor of shape [0]: what TensorBoard puts where hyperparameters come without a value."""

_HASH_BYTES: Final = 32
_SCALAR_CLASS: Final = 1
_FIELDS_MAX: Final = 16
_EXPONENT_FLOOR: Final = 767
"""Biased exponents of keys are 767 to 1278 (2^-256 to 2^255): no NaN, no subnormal, and sums of them stay finite."""


@dataclass(slots=True, frozen=True)
class Metadata:
    """What a serialised SummaryMetadata says that matters here. plugin: its plugin name, "" if none is given."""

    plugin: str = ""
    is_scalar: bool = False


def blob_of(data: bytes) -> Blob:
    """The blob of these bytes."""
    return Blob(data, hashlib.blake2b(data, digest_size=_HASH_BYTES).digest())


def key_of_hash(digest: bytes) -> float:
    """The key of the blob with that hash: sign, 9 bits of exponent and 52 of mantissa are its first 62 bits."""
    bits = int.from_bytes(digest[:8], "little")
    exponent = _EXPONENT_FLOOR + (bits >> 52 & 0x1FF)
    word = (bits >> 61 & 1) << 63 | exponent << 52 | bits & (1 << 52) - 1
    return float(np.uint64(word).view(np.float64))


def keys_of(blobs: Sequence[Blob]) -> Float64:
    """The keys of blobs as a column of values: float64[n, 1]."""
    return np.array([key_of_hash(blob.hash) for blob in blobs], np.float64).reshape(-1, 1)


def read_metadata(data: bytes | memoryview) -> Metadata:
    """What a serialised SummaryMetadata says. Raises MalformedError for what TensorBoard could not read."""
    if len(data) > limits.METADATA_BYTES_MAX:
        raise MalformedError(f"the metadata has {len(data)} bytes; at most {limits.METADATA_BYTES_MAX}")
    plugin, is_scalar = "", False
    for field in protos.read_fields(memoryview(data), "the metadata", fields_max=_FIELDS_MAX):
        if field.number == 1:
            protos.expect(field, protos.SIZED, "plugin_data")
            plugin = _plugin_name(field.data)
        elif field.number in (2, 3):
            protos.text(field, "a text of the metadata")
        elif field.number == 4:
            is_scalar = protos.expect(field, protos.VARINT, "data_class").varint == _SCALAR_CLASS
        else:
            raise MalformedError(f"the metadata has a field {field.number} that TensorBoard does not know")
    return Metadata(plugin, is_scalar or plugin == SCALARS)


def blob_field(blob: bytes | memoryview) -> int:
    """The number of the one field that a blob is. Raises MalformedError if it is something else, or too large."""
    if len(blob) > limits.BLOB_BYTES_MAX:
        raise MalformedError(f"a value of {len(blob)} bytes; at most {limits.BLOB_BYTES_MAX}")
    fields = list(protos.read_fields(memoryview(blob), "the value", fields_max=2))
    if len(fields) != 1 or fields[0].number not in VALUE_FIELDS or fields[0].wire_type != protos.SIZED:
        raise MalformedError("not a Summary.Value with nothing but one of image, histo, audio and tensor")
    return fields[0].number


def kind_of(metadata: Metadata, field: int) -> str:
    """The kind of a tag whose first point has this metadata, and its value in this field of Summary.Value."""
    return metadata.plugin or _OLD_STYLE.get(field, TENSORS)


def plain_metadata(kind: str) -> bytes:
    """The least metadata that tells readers a tag's kind."""
    return protos.sized(1, protos.sized(1, kind.encode()))


def _plugin_name(plugin_data: memoryview) -> str:
    plugin = ""
    for field in protos.read_fields(plugin_data, "plugin_data", fields_max=_FIELDS_MAX):
        if field.number == 1:
            plugin = protos.text(field, "plugin_name")
        elif field.number != 2 or field.wire_type != protos.SIZED:
            raise MalformedError(f"plugin_data has a field {field.number} that TensorBoard does not know")
    if plugin:
        try:
            names.check_kind(plugin)
        except names.InvalidNameError as error:
            raise MalformedError(str(error)) from error
    return plugin
