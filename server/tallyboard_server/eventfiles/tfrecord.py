"""The framing of event files (TFRecord): length, masked CRC of the length, data, masked CRC of the data."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from tallyboard_server.eventfiles.crc import masked_crc32c

HEADER_BYTES: Final = 12
"""u64le length, u32le masked CRC-32C of these eight bytes."""
FOOTER_BYTES: Final = 4
"""u32le masked CRC-32C of the data."""
RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest data that is believed. 4,096 tags of 512 bytes are 2 MiB; a length beyond this is damage, and believing
it would make a reader reserve the memory (TensorBoard's does, and aborts)."""

_HEADER: Final = struct.Struct("<QI")
_LENGTH: Final = struct.Struct("<Q")
_CRC: Final = struct.Struct("<I")


@dataclass(slots=True, frozen=True)
class Record:
    """One whole record: where it begins in the file, and its data."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Offset of the byte after it."""
        return self.offset + HEADER_BYTES + len(self.data) + FOOTER_BYTES


@dataclass(slots=True, frozen=True)
class Damage:
    """Why nothing can be read from `offset` on.

    torn: the file merely ends within a record, which is how one that is still being written looks.
    """

    offset: int
    reason: str
    torn: bool


def frame_header(size: int) -> bytes:
    """The twelve bytes before `size` bytes of data."""
    length = _LENGTH.pack(size)
    return length + _CRC.pack(masked_crc32c(length))


def frame(data: bytes) -> bytes:
    """A whole record."""
    return frame_header(len(data)) + data + _CRC.pack(masked_crc32c(data))


def record_size(data: bytes, at: int) -> int | Damage | None:
    """Bytes of the whole record that begins at an offset of `data`; None if its header is not all there."""
    if at + HEADER_BYTES > len(data):
        return None
    size, crc = _HEADER.unpack_from(data, at)
    if (fault := _length_fault(data[at : at + 8], size, crc)) is not None:
        return Damage(at, fault, torn=False)
    return HEADER_BYTES + int(size) + FOOTER_BYTES


def read_records(stream: BinaryIO) -> Iterator[Record | Damage]:
    """The records of a file from the stream's position (taken as offset 0) on.

    A Damage, if there is one, comes last: where a record's length is not to be believed, nothing after it is.
    """
    offset = 0
    while header := stream.read(HEADER_BYTES):
        if len(header) < HEADER_BYTES:
            yield Damage(offset, f"{len(header)} of {HEADER_BYTES} header bytes", torn=True)
            return
        size, crc = _HEADER.unpack(header)
        if (fault := _length_fault(header[:8], size, crc)) is not None:
            yield Damage(offset, fault, torn=False)
            return
        body = stream.read(size + FOOTER_BYTES)
        if len(body) < size + FOOTER_BYTES:
            yield Damage(offset, f"{len(body)} of {size + FOOTER_BYTES} bytes after the header", torn=True)
            return
        data = body[:size]
        if _CRC.unpack(body[size:])[0] != masked_crc32c(data):
            yield Damage(offset, "the data's checksum is wrong", torn=False)
            return
        record = Record(offset, data)
        yield record
        offset = record.end


def _length_fault(length: bytes, size: int, crc: int) -> str | None:
    """Why a record's length is not to be believed."""
    if crc != masked_crc32c(length):
        return "the length's checksum is wrong"
    if size > RECORD_BYTES_MAX:
        return f"a record of {size} bytes; at most {RECORD_BYTES_MAX}"
    return None
