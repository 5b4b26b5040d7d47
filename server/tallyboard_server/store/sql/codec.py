"""Columns as blobs: plain in the journal (written once, soon merged), delta, byte planes and zstd when merged.

Byte planes (all first bytes, then all second bytes, …) put the slow bytes of neighbouring numbers side by side,
which is what makes float64 columns compressible (the shuffle filter of HDF5 and Blosc).
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import zstandard

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import Block, Int32

ZSTD_LEVEL: Final = 1  # noise does not shrink further at higher levels; speed is what is left to choose

_WORD: Final = 8
_I8: Final = np.dtype("<i8")
_F8: Final = np.dtype("<f8")
_I4: Final = np.dtype("<i4")


def pack_word(word: int | None) -> int | None:
    """An unsigned 64-bit number as SQLite's signed one; None stays NULL."""
    return word if word is None or word < 2**63 else word - 2**64


def unpack_word(number: int | None) -> int | None:
    """The number that pack_word packed."""
    return None if number is None else number % 2**64


def pack_ids(ids: Int32) -> bytes:
    """Tag or counter ids as little-endian int32."""
    return np.ascontiguousarray(ids, _I4).tobytes()


def unpack_ids(blob: bytes) -> Int32:
    """The ids that pack_ids packed."""
    return np.frombuffer(blob, _I4)


def pack_rows(block: Block) -> bytes:
    """The columns of a block, one after the other."""
    columns: list[Int64 | Float64] = [
        np.ascontiguousarray(block.steps, _I8),
        np.ascontiguousarray(block.wall_times, _F8),
        np.ascontiguousarray(block.values, _F8),
        *(np.ascontiguousarray(column, _I8) for column in block.at.values()),
    ]
    return b"".join(column.data for column in columns)


def unpack_rows(
    pos: int, counter_id: int, attempt: int, n: int, tag_ids: bytes, at_counters: bytes, data: bytes
) -> Block:
    """The block whose columns pack_rows packed."""
    tags = unpack_ids(tag_ids)
    k = len(tags)
    at_offset = (2 + k) * n
    return Block(
        pos=pos,
        counter_id=counter_id,
        attempt=attempt,
        tag_ids=tags,
        steps=np.frombuffer(data, _I8, n),
        wall_times=np.frombuffer(data, _F8, n, _WORD * n),
        values=np.frombuffer(data, _F8, n * k, 2 * _WORD * n).reshape(n, k),
        at={
            int(counter): np.frombuffer(data, _I8, n, _WORD * (at_offset + i * n))
            for i, counter in enumerate(unpack_ids(at_counters))
        },
    )


def unpack_equal_rows(
    counter_id: int, attempt: int, n: int, tag_ids: bytes, at_counters: bytes, packed: Sequence[bytes]
) -> Block:
    """Blocks of n rows each with the same tags and counters in `at`, as one block (of position 0)."""
    tags = unpack_ids(tag_ids)
    counters = unpack_ids(at_counters).tolist()
    k = len(tags)
    words = np.frombuffer(b"".join(packed), _I8).reshape(len(packed), (2 + k + len(counters)) * n)
    at = words[:, (2 + k) * n :].reshape(len(packed), len(counters), n)
    return Block(
        pos=0,
        counter_id=counter_id,
        attempt=attempt,
        tag_ids=tags,
        steps=words[:, :n].reshape(-1),
        wall_times=words[:, n : 2 * n].reshape(-1).view(_F8),
        values=words[:, 2 * n : (2 + k) * n].reshape(-1, k).view(_F8),
        at={int(counter): at[:, i].reshape(-1) for i, counter in enumerate(counters)},
    )


def compress_ints(column: Int64) -> bytes:
    """Differences (wrapping, so exact for all int64), byte planes, zstd."""
    first = np.zeros(1, np.int64)
    return squeeze(np.diff(np.ascontiguousarray(column, _I8), prepend=first).view(_I8))


def decompress_ints(blob: bytes, n: int) -> Int64:
    """The n integers that compress_ints compressed."""
    return np.cumsum(expand(blob, n).view(_I8), dtype=np.int64)


def compress_floats(column: Float64) -> bytes:
    """Byte planes, zstd: exact for every bit pattern."""
    return squeeze(np.ascontiguousarray(column, _F8))


def decompress_floats(blob: bytes, n: int) -> Float64:
    """The n floats that compress_floats compressed."""
    return expand(blob, n).view(_F8)


def pack_json(document: Mapping[str, Any] | tuple[str, ...] | list[Any]) -> str:
    """A document as JSON text."""
    plain = dict(document) if isinstance(document, Mapping) else document
    return msgspec.json.encode(plain).decode()


def unpack_json(text: str | bytes) -> Any:
    """The document that pack_json packed."""
    return msgspec.json.decode(text)


def squeeze(column: Int64 | Float64) -> bytes:
    """Eight-byte numbers as byte planes, compressed."""
    planes = np.ascontiguousarray(column).view(np.uint8).reshape(-1, _WORD).T
    return _contexts.compressor.compress(planes.tobytes())


def expand(blob: bytes, n: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The bytes of the n numbers that squeeze compressed."""
    planes = _contexts.decompressor.decompress(blob, max_output_size=n * _WORD)
    return np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(_WORD, n).T).reshape(-1)


class _Zstd(threading.local):
    """Contexts of one thread: making them takes as long as a small column."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts: Final = _Zstd()
