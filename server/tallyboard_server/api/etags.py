"""Weak ETags: whether a reader has an answer already."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

ETAG_TOLD: Final = "Of this answer: the same question with If-None-Match is answered by 304 until it changes."
_ETAGS: Final = re.compile(r'(?:W/)?("[^"]*")|\*')


def known_etags(request: Request) -> list[str]:
    """What If-None-Match names, as weak ETags or `*`."""
    return [f"W/{found[1]}" if found[1] else "*" for found in _ETAGS.finditer(request.headers.get("if-none-match", ""))]


def named_by_if_match(request: Request) -> list[str] | None:
    """What If-Match names, as strong ETags (a proxy that compresses makes them weak) or `*`; None without one."""
    header = request.headers.get("if-match")
    return None if header is None else [found[1] or "*" for found in _ETAGS.finditer(header)]


def is_known(etag: str, known: Sequence[str]) -> bool:
    """Whether one of these is it."""
    return etag in known or "*" in known


def headers(etag: str) -> dict[str, str]:
    """What goes with an answer that has an ETag, and with a 304 in its place."""
    return {"ETag": etag, "Vary": "Accept", "Cache-Control": "private, no-cache"}
