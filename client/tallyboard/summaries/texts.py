"""Text, which TensorBoard shows as Markdown; of several, a table with a row for each."""

from collections.abc import Sequence
from typing import Final

from tallyboard.collect.blobs import PendingBlob, encoded
from tallyboard.errors import InvalidReportError
from tallyboard.summaries.tensors import strings, tensor_metadata
from tallyboard.wire import summaries

METADATA: Final = tensor_metadata(summaries.TEXT)
TEXTS_MAX: Final = 10_000


def text_blob(text: str | Sequence[str]) -> PendingBlob:
    """A point of a text tag. Raises InvalidReportError if it is no text, or too long."""
    texts = list(text) if isinstance(text, list | tuple) else [text]
    if not texts or len(texts) > TEXTS_MAX or not all(isinstance(one, str) for one in texts):
        raise InvalidReportError(f"log_text takes a string, or 1 to {TEXTS_MAX:,} of them in a list")
    return encoded(METADATA, strings([str(one).encode("utf-8", "replace") for one in texts]))
