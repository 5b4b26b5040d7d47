"""Parcels as frames of a file: lengths and a checksum around each, so that torn and damaged ones are told.

A frame: u32 length of the body · u32 crc32 of what follows · u64 closes · u32 reports · u8 flags · body, little-endian.
"""

import os
import zlib
from dataclasses import dataclass
from struct import Struct
from typing import Final

from tallyboard.outbox.parcel import Parcel
from tallyboard.wire import limits

_HEAD: Final = Struct("<II")
_ABOUT: Final = Struct("<QIB")
OVERHEAD_BYTES: Final = _HEAD.size + _ABOUT.size
_OPENS, _CLAIMS = 1, 2


class TornFrameError(Exception):
    """The file ends within the frame: its writer has not finished it, or never will."""


class DamagedFrameError(Exception):
    """The bytes are no frame. `end`: where the next one begins, if the length can be trusted; else None."""

    def __init__(self, end: int | None) -> None:
        super().__init__("damaged frame")
        self.end = end


@dataclass(slots=True, frozen=True)
class Frame:
    """A parcel and the offset behind it."""

    parcel: Parcel
    end: int


def pack(parcel: Parcel) -> list[bytes]:
    """The pieces of a frame, in order; written in one call."""
    about = _ABOUT.pack(parcel.closes, parcel.reports, _OPENS * parcel.opens | _CLAIMS * parcel.claims)
    crc = zlib.crc32(parcel.body, zlib.crc32(about))
    return [_HEAD.pack(len(parcel.body), crc) + about, parcel.body]


def size(parcel: Parcel) -> int:
    """Bytes of its frame."""
    return OVERHEAD_BYTES + len(parcel.body)


@dataclass(slots=True, frozen=True)
class Outline:
    """What a frame's head says of its batch, unchecked: the body was not read."""

    reports: int
    claims: bool
    end: int


def outline(descriptor: int, offset: int) -> Outline | None:
    """What is said of the batch at an offset; None where no whole frame can be. Raises OSError."""
    head = os.pread(descriptor, OVERHEAD_BYTES, offset)
    if len(head) < OVERHEAD_BYTES:
        return None
    length, _ = _HEAD.unpack_from(head)
    _, reports, flags = _ABOUT.unpack_from(head, _HEAD.size)
    end = offset + OVERHEAD_BYTES + length
    if not 0 < length <= limits.BODY_BYTES_MAX or end > os.fstat(descriptor).st_size:
        return None
    return Outline(reports, bool(flags & _CLAIMS), end)


def read(descriptor: int, offset: int) -> Frame | None:
    """The frame at an offset; None at the end of the file. Raises TornFrameError, DamagedFrameError, OSError."""
    head = os.pread(descriptor, OVERHEAD_BYTES, offset)
    if not head:
        return None
    if len(head) < OVERHEAD_BYTES:
        raise TornFrameError
    length, crc = _HEAD.unpack_from(head)
    if not 0 < length <= limits.BODY_BYTES_MAX:
        raise DamagedFrameError(None)
    body = _pread(descriptor, length, offset + OVERHEAD_BYTES)
    if len(body) < length:
        raise TornFrameError
    end = offset + OVERHEAD_BYTES + length
    about = head[_HEAD.size :]
    if zlib.crc32(body, zlib.crc32(about)) != crc:
        raise DamagedFrameError(end)
    closes, reports, flags = _ABOUT.unpack(about)
    return Frame(Parcel(body, reports, closes, bool(flags & _OPENS), bool(flags & _CLAIMS)), end)


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    """As os.pread, which may return less than there is."""
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, length, offset)):
        pieces.append(piece)
        length -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
