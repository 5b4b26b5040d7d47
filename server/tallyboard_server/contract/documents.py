"""Merging of the JSON documents that people attach to a run: config, summary, provenance."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallyboard.wire import limits

_DEPTH_MAX: Final = 64
"""Objects nested deeper than this are replaced whole; Python's own stack is the bound behind it."""


def merge_patch(document: Mapping[str, Any], patch: Mapping[str, Any], *, depth: int = 0) -> dict[str, Any]:
    """The document with the patch merged in (RFC 7396): objects merge, null removes, the rest replaces."""
    merged = dict(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and depth < _DEPTH_MAX:
            below = merged.get(key)
            merged[key] = merge_patch(below if isinstance(below, Mapping) else {}, value, depth=depth + 1)
        else:
            merged[key] = value
    return merged


def merge_bounded(
    what: str, document: Mapping[str, Any], patch: Mapping[str, Any], warnings: list[str]
) -> Mapping[str, Any]:
    """`merge_patch`, unless the result is too large: then the document as it was, and a warning that says so.

    A warning and no error, because the reports in the same batch must not be lost over it.
    """
    merged = merge_patch(document, patch)
    if (problem := too_large(what, merged)) is not None:
        warnings.append(f"the {what} was left as it is: {problem}")
        return document
    return merged


def too_large(what: str, document: Mapping[str, Any]) -> str | None:
    """What is wrong with a document of more than TEXT_BYTES_MAX bytes of JSON; None if it is not that large."""
    size = len(msgspec.json.encode(document))
    if size <= limits.TEXT_BYTES_MAX:
        return None
    return (
        f"the {what} would take {size} bytes of JSON, at most {limits.TEXT_BYTES_MAX} are kept; "
        "remove keys by setting them to null"
    )
