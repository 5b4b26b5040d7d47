"""Config, summary and provenance: JSON documents that every part can encode again, as JSON and as MessagePack."""

import math
from typing import Any, Final

import msgspec

from tallyboard.wire import limits

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
"""What MessagePack can hold; JSON itself knows no bound."""


class InvalidDocumentError(ValueError):
    """Not such a document. `path` is where in it, beginning with a dot, or empty for the whole."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(detail)
        self.path = path


def check(document: dict[str, Any]) -> None:
    """Raise InvalidDocumentError if a document is too large, too deep, or holds what JSON does not."""
    _check_value(document, "", limits.DOCUMENT_DEPTH_MAX)
    try:
        size = len(msgspec.json.encode(document))
    except ValueError as error:  # a lone surrogate
        raise InvalidDocumentError("", f"not valid UTF-8: {error}") from error
    if size > limits.TEXT_BYTES_MAX:
        raise InvalidDocumentError("", f"{size} bytes of JSON; at most {limits.TEXT_BYTES_MAX}")


def _check_value(value: Any, path: str, depth: int) -> None:
    match value:
        case None | bool() | str():
            return
        case int():
            if not _INT_MIN <= value <= _INT_MAX:
                raise InvalidDocumentError(path, "a whole number beyond 64 bits; send it as text")
        case float():
            if not math.isfinite(value):
                raise InvalidDocumentError(path, f'{value} is no JSON number; send "NaN", "Infinity" or "-Infinity"')
        case _ if depth == 0:
            raise InvalidDocumentError(path, f"nested more than {limits.DOCUMENT_DEPTH_MAX} deep")
        case list() | tuple():
            for index, item in enumerate(value):
                _check_value(item, f"{path}[{index}]", depth - 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidDocumentError(path, f"the key {key!r} is no text")
                _check_value(item, f"{path}.{key}", depth - 1)
        case _:
            raise InvalidDocumentError(path, f"a {type(value).__name__} is not JSON")
