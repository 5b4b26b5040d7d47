"""Where the records of a piece of an event file lie: the framing, believed as far as its checksums hold."""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard.logdir.crc import masked_crc32c
from tallyboard.wire import Int64
from tallyboard.wire.limits import MIB

HEADER_BYTES: Final = 12
"""u64le length of the data, u32le masked CRC-32C of these eight bytes."""
FOOTER_BYTES: Final = 4
"""u32le masked CRC-32C of the data."""
RECORD_BYTES_MAX: Final = 64 * MIB
"""Longest data that is believed: a length beyond it is damage, and believing it would take the memory."""

_HEADER: Final = struct.Struct("<QI")
_LENGTH: Final = struct.Struct("<Q")
_UNWRITTEN: Final = bytes(HEADER_BYTES)
_SHORT_MAX: Final = 1 << 16
_NEW_LENGTHS_MAX: Final = 512
"""Learnt of one chunk before they were met (10 µs each)."""
_RECORD_BYTES_LEAST: Final = 24
"""Of a record of one scalar: framing and some of its data; many more headers than that allows are none."""


@dataclass(slots=True, frozen=True)
class Scan:
    """The whole records of some bytes: at int64[n], where each one's data begins; sizes int64[n], of the data.

    end: the offset after them. damage: why nothing from there on can be read, or "". needed: bytes from `end` on that
    the next record takes, as far as its header is there (else 0).
    """

    at: Int64
    sizes: Int64
    end: int
    damage: str = ""
    needed: int = 0


class Lengths:
    """Masked checksums of the lengths met before, below 64 KiB; 0: not met."""

    def __init__(self) -> None:
        self.short = np.zeros(_SHORT_MAX, np.uint32)

    def fault(self, size: int, crc: int) -> str:
        """Why a length is not to be believed; "" if it is."""
        if size < _SHORT_MAX and self.short[size] == crc:
            return ""
        if masked_crc32c(_LENGTH.pack(size)) != crc:
            return "the checksum of a record's length is wrong"
        if size > RECORD_BYTES_MAX:
            return f"a record of {size} bytes; at most {RECORD_BYTES_MAX}"
        self.learn(size)
        return ""

    def learn(self, size: int) -> None:
        """Remember the checksum of a short length."""
        if size < _SHORT_MAX:
            self.short[size] = masked_crc32c(_LENGTH.pack(size))


def scan(data: bytes, lengths: Lengths) -> Scan:
    """Find the records of `data`, which begins with one.

    A header of nothing but zeros is one that is not written yet (a length has a checksum even if it is 0).
    """
    pieces: list[Int64] = []
    at, damage, needed = 0, "", 0
    stretches = _Stretches(data, lengths)
    while at + HEADER_BYTES <= len(data):
        stretch = stretches.beginning(at)
        if stretch is None:
            size, crc = _HEADER.unpack_from(data, at)
            if data[at : at + HEADER_BYTES] == _UNWRITTEN or (damage := lengths.fault(size, crc)):
                break
            stretch = np.array([at, at + HEADER_BYTES + size + FOOTER_BYTES], np.int64)
            if stretch[1] > len(data):
                needed = int(stretch[1]) - at
                break
        pieces.append(stretch[:-1])
        at = int(stretch[-1])
    starts = np.concatenate([*pieces, np.array([at], np.int64)])
    sizes = np.diff(starts) - (HEADER_BYTES + FOOTER_BYTES)
    return Scan(starts[:-1] + HEADER_BYTES, sizes, at, damage, needed)


class _Stretches:
    """Where short records of known lengths follow each other, found all over the bytes at once.

    A header of such a record shows by its six zero bytes and the right checksum. What only looks like one, within a
    record's data, is never begun with: the records before it lead past it.
    """

    def __init__(self, data: bytes, lengths: Lengths) -> None:
        array = np.frombuffer(data, np.uint8)
        empty = np.empty(0, np.int64)
        self._starts, self._ends, self._breaks = empty, empty, empty
        if len(array) < HEADER_BYTES + FOOTER_BYTES:
            return
        starts = _short_lengths(data)
        if len(starts) * _RECORD_BYTES_LEAST > len(array):
            return  # mostly zeros: pictures, not scalars
        sizes = array[starts].astype(np.int64) | array[starts + 1].astype(np.int64) << 8
        new = np.unique(sizes[lengths.short[sizes] == 0])
        for size in new[:_NEW_LENGTHS_MAX].tolist():
            lengths.learn(size)
        crcs = np.zeros(len(starts), np.uint32)
        for i in range(4):
            crcs |= array[starts + 8 + i].astype(np.uint32) << np.uint32(8 * i)
        ends = starts + sizes + (HEADER_BYTES + FOOTER_BYTES)
        good = (lengths.short[sizes] == crcs) & (ends <= len(array)) & (crcs != 0)
        self._starts, self._ends = starts[good], ends[good]
        self._breaks = np.flatnonzero(self._ends[:-1] != self._starts[1:])

    def beginning(self, at: int) -> Int64 | None:
        """The starts of records that follow each other from an offset on, and the end of the last; None if none."""
        first = int(np.searchsorted(self._starts, at))
        if first == len(self._starts) or self._starts[first] != at:
            return None
        place = int(np.searchsorted(self._breaks, first))
        last = int(self._breaks[place]) if place < len(self._breaks) else len(self._starts) - 1
        return np.append(self._starts[first : last + 1], self._ends[last])


def _short_lengths(data: bytes) -> Int64:
    """Where eight bytes can be a length below 64 KiB, and a checksum still follows."""
    found = []
    for offset in range(8):
        count = (len(data) - (HEADER_BYTES - 8) - offset) // 8
        if count > 0:
            words = np.frombuffer(data, "<u8", count, offset)
            found.append(np.flatnonzero(words < _SHORT_MAX) * 8 + offset)
    starts = np.concatenate(found)
    starts.sort(kind="stable")
    return starts
