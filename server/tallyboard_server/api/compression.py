"""Compressed bodies, taken apart in bounded pieces so that no body can grow beyond what was allowed."""

import zlib
from collections.abc import Callable
from typing import Final, Protocol

import zstandard

from tallyboard_server.api.problems import BodyDamagedError, BodyTooLargeError, UnsupportedEncodingError

_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW_BYTES_MAX: Final = 32 * 2**20
"""Memory that one frame may ask for; level 19 asks for 8 MiB, and a body is smaller than this."""
_GZIP_SLICE_BYTES: Final = 4096
"""Deflate expands at most 1032 times: at most 4 MiB of output a slice."""
_ZSTD_SLICE_BYTES: Final = 128
"""The smallest block is 4 bytes and expands to 128 KiB: at most 4 MiB of output a slice."""


MEMBERS_MAX: Final = 4096
"""Compressors that work in parallel make members of at least 64 KiB, so that a body has no need for more. Each costs a
decompressor, and a body may hold millions of empty ones."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def check_encoding(content_encoding: str) -> str:
    """Return "identity", "gzip" or "zstd", or raise UnsupportedEncodingError."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return "identity"
        case "gzip" | "x-gzip":
            return "gzip"
        case "zstd":
            return "zstd"
    raise UnsupportedEncodingError(
        f"content encoding {content_encoding[:60]!r} is not taken; send gzip, zstd, or none", field="content-encoding"
    )


def decompress(data: bytes, encoding: str, *, bytes_max: int) -> bytes:
    """The bytes behind gzip or zstd data (one or several members or frames).

    Raises BodyTooLargeError beyond bytes_max, BodyDamagedError for data that is cut, damaged, or all in crumbs.
    """
    if encoding == "gzip":
        return _unpack(data, lambda: zlib.decompressobj(_GZIP_WBITS), _GZIP_SLICE_BYTES, bytes_max)
    context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    return _unpack(data, context.decompressobj, _ZSTD_SLICE_BYTES, bytes_max)


def _unpack(data: bytes, begin: Callable[[], _Decompressor], slice_bytes: int, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    members = 1
    current = begin()
    view = memoryview(data)
    start = 0
    while start < len(view):
        if current.eof:
            if (members := members + 1) > MEMBERS_MAX:
                raise BodyDamagedError(f"the compressed body has more than {MEMBERS_MAX} members; compress it in one")
            current = begin()
        piece = view[start : start + slice_bytes]
        start += len(piece)
        try:
            output = current.decompress(bytes(piece))
        except (zlib.error, zstandard.ZstdError) as error:
            raise BodyDamagedError(f"the compressed body is damaged: {error}") from error
        start -= len(current.unused_data)
        size += len(output)
        if size > bytes_max:
            raise BodyTooLargeError(
                f"the body is larger than {bytes_max} bytes when decompressed; send smaller batches"
            )
        pieces.append(output)
    if not current.eof:
        raise BodyDamagedError("the compressed body is cut: its end is missing")
    return b"".join(pieces)
