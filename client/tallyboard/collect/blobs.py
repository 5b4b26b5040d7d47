"""A point of a tag that is no scalar (an image, a text, …), from the call that reports it until it is sent."""

from collections.abc import Callable
from typing import Final

from tallyboard.errors import InvalidReportError
from tallyboard.wire import summaries
from tallyboard.wire.protos import MalformedError

_BITS: Final = 2**64 - 1


class PendingBlob:
    """Encoded by `encode`, which the sender's thread calls: the call that reports only copies what may change.

    kind: TensorBoard's plugin name. metadata: a serialised SummaryMetadata, may be empty. nbytes: what it holds in
    memory, and at least what it has when encoded. bits: 64 bits that are the same for the same content in this process.
    """

    __slots__ = ("_encoded", "_make", "bits", "kind", "metadata", "nbytes")

    def __init__(self, kind: str, metadata: bytes, nbytes: int, content: object, make: Callable[[], bytes]) -> None:
        """content: whatever can be hashed and stands for the content. make: encodes it, once."""
        self.kind = kind
        self.metadata = metadata
        self.nbytes = nbytes
        self.bits = hash(content) & _BITS
        self._make: Callable[[], bytes] | None = make
        self._encoded = b""

    def encode(self) -> bytes:
        """The blob as the wire has it: the one field of a Summary.Value that holds its value."""
        if self._make is not None:
            self._encoded = self._make()
            self._make = None
        return self._encoded


def encoded(metadata: bytes, blob: bytes) -> PendingBlob:
    """A blob that is encoded already. Raises InvalidReportError if the service would not take it."""
    try:
        kind = summaries.kind_of(summaries.read_metadata(metadata), summaries.blob_field(blob))
    except MalformedError as error:
        raise InvalidReportError(str(error)) from error
    return PendingBlob(kind, metadata, len(blob), blob, lambda: blob)


def check_size(nbytes: int, bytes_max: int, what: str) -> None:
    """Raise InvalidReportError if something is too large to be sent."""
    if nbytes > bytes_max:
        raise InvalidReportError(f"{what} of {nbytes:,} bytes; at most {bytes_max:,} can be sent")
