"""What TensorBoard makes of summaries that are no scalars: its own readers' conversions, applied to stored blobs."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from tensorboard import data_compat, dataclass_compat
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.util import tensor_util

from tallyboard.wire import Blob
from tallyboard_server.model import Tag

TENSOR: Final = summary_pb2.DATA_CLASS_TENSOR
BLOBS: Final = summary_pb2.DATA_CLASS_BLOB_SEQUENCE

_OLD_STYLE: Final = {"images": "image", "histograms": "histo", "audio": "audio"}
"""By kind: the field of a Summary.Value in which values without metadata stand."""


@dataclass(slots=True, frozen=True)
class About:
    """What TensorBoard has to know of a tag. data_class: TENSOR, BLOBS, or one that it shows nowhere.

    texts: plugin_content, description, display_name of its time series.
    """

    data_class: int
    texts: dict[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=10_000)
def described(kind: str, metadata: bytes, tag: str) -> About:
    """What a tag's metadata says, completed as TensorBoard's readers do it for a first value."""
    value = _value(kind, metadata, tag)
    if not value.metadata.plugin_data.plugin_name and kind in _OLD_STYLE:
        getattr(value, _OLD_STYLE[kind]).SetInParent()
    told = _converted(value).metadata
    return About(
        told.data_class,
        {
            "plugin_content": told.plugin_data.content,
            "description": told.summary_description,
            "display_name": told.display_name,
        },
    )


def array_of(tag: Tag, blob: Blob) -> Any:
    """A stored value as TensorBoard's plugins get it: a numpy array; strings are an array of objects, bytes each."""
    value = _value(tag.kind, tag.metadata, tag.name)
    value.MergeFromString(blob.data)
    return tensor_util.make_ndarray(_converted(value).tensor)


def _value(kind: str, metadata: bytes, tag: str) -> Any:
    value = summary_pb2.Summary.Value(tag=tag)
    value.metadata.ParseFromString(metadata)
    if not value.metadata.plugin_data.plugin_name and kind not in _OLD_STYLE:
        value.metadata.plugin_data.plugin_name = kind
    return value


def _converted(value: Any) -> Any:
    """A value in the form that all plugins read: a tensor with metadata that says its data class."""
    event = event_pb2.Event(summary=summary_pb2.Summary(value=[value]))
    (converted,) = dataclass_compat.migrate_event(data_compat.migrate_event(event), {})
    return converted.summary.value[0]
