"""From points that are no scalars to the bytes of event records, and what makes readers forget such points.

A record holds one point: its blob as it was reported, with the tag and the tag's metadata in each of them. TensorBoard
looks at a tag's first metadata only; a file whose records all have it may be read, cut and continued anywhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tallyboard.wire import Float64, Int64, protos
from tallyboard.wire.summaries import TENSOR_FIELD, TENSORS, blob_of, key_of_hash, plain_metadata
from tallyboard.wire.tensors import string_tensor
from tallyboard_server.eventfiles.encoder import encode_summary
from tallyboard_server.model import Tag

_NO_STRINGS: Final = protos.sized(TENSOR_FIELD, string_tensor())
_VACANT: Final = {
    kind: protos.sized(TENSOR_FIELD, string_tensor(*strings) + b"\x18\xe4\x0b")
    for kind, strings in (("images", (b"0", b"0")), ("audio", ()))
}
"""A width and a height with no image, and no clip. The version number, which nobody reads, makes them our own."""
VACANT_KEYS: Final = frozenset(key_of_hash(blob_of(blob).hash) for blob in _VACANT.values())
"""What encode_vacant leaves in a file is told by these keys from what was reported."""
_OBSOLETE: Final = protos.sized(3, b"")
"""obsolete_old_style_histogram; see encoder.encode_eraser."""


@dataclass(slots=True, frozen=True)
class Series:
    """What every record of a tag that is no scalar says of it: `metadata` may be empty."""

    tag: str
    kind: str
    metadata: bytes

    @property
    def head(self) -> bytes:
        """The fields of a Summary.Value beside its value."""
        return protos.sized(1, self.tag.encode()) + (protos.sized(9, self.metadata) if self.metadata else b"")

    @property
    def told(self) -> "Series":
        """The same with metadata that tells its kind, for records whose value does not."""
        if self.metadata or self.kind == TENSORS:
            return self
        return Series(self.tag, self.kind, plain_metadata(self.kind))


def series_of(tag: Tag) -> Series:
    """What the records of a tag say of it."""
    return Series(tag.name, tag.kind, tag.metadata)


def encode_points(series: Series, steps: Int64, wall_times: Float64, blobs: Sequence[bytes]) -> list[bytes]:
    """A record for each point: steps int64[n] ≥ 0, wall_times float64[n], n blobs."""
    head = series.head
    return [
        encode_summary(wall_time, step, (head + blob,))
        for step, wall_time, blob in zip(steps.tolist(), wall_times.tolist(), blobs, strict=True)
    ]


def encode_empty(wall_time: float, tags: Iterable[Series]) -> bytes:
    """An empty tensor at step 0 for each tag: encoder.encode_placeholders for tags that are no scalars."""
    return encode_summary(wall_time, 0, (series.told.head + _NO_STRINGS for series in tags))


def encode_vacant(wall_time: float, tags: Iterable[Series]) -> bytes:
    """A point at step 0 that shows nothing, for each tag of a kind that must not be without any.

    The Python reader keeps the tags that it has once seen, and its pages of images and sounds fail as a whole if one of
    them has no point left.
    """
    return b"".join(
        encode_summary(wall_time, 0, (series.told.head + _VACANT[series.kind],))
        for series in tags
        if series.kind in _VACANT
    )


def encode_erasers(wall_time: float, tags: Iterable[Series]) -> bytes:
    """encoder.encode_eraser for tags that are no scalars: their metadata tells a reader that meets them here first."""
    return encode_summary(wall_time, 0, (series.told.head + _OBSOLETE for series in tags))
