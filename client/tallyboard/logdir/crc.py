"""CRC-32C in numpy, many bytes at a time: the client needs no native package to know a damaged record.

The checksum is linear: each byte adds a value that depends on it and on how many bytes follow, and these values are
joined by exclusive or. So records of one layout are checked column by column, and what is the same in all of them only
once; and a long record is cut into rows that are checked side by side.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
UInt32 = npt.NDArray[np.uint32]

_POLYNOMIAL: Final = 0x82F63B78
_ONES: Final = 0xFFFFFFFF
_MASK_DELTA: Final = 0xA282EAD8
_ROW_BYTES: Final = 256
"""Of a long record; the tables for it (256 KiB) fit into a core's cache."""
_SHORT_BYTES: Final = 32
"""Up to here a loop over the bytes is quicker than numpy."""


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of some bytes."""
    if len(data) <= _SHORT_BYTES:
        state, table = _ONES, _byte_list()
        for byte in data:
            state = state >> 8 ^ table[(state ^ byte) & 0xFF]
        return state ^ _ONES
    return _of_zeros(len(data)) ^ _added(np.frombuffer(data, np.uint8))


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum of some bytes as a record holds it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _ONES


def mask(crc: UInt32) -> UInt32:
    """The form in which records hold checksums."""
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(_MASK_DELTA)


def tables_for(following: list[int]) -> UInt32:
    """uint32[k, 256]: what each byte adds to a checksum, where so many bytes follow it."""
    return np.array([_after_zeros(_byte_table(), zeros) for zeros in following], np.uint32).reshape(-1, 256)


def _added(data: Bytes) -> int:
    """What the bytes add to a checksum. Rows of zeros before them add nothing, so there may be 2^k rows."""
    count = -(-len(data) // _ROW_BYTES)
    rows = np.zeros((1 << max(0, count - 1).bit_length(), _ROW_BYTES), np.uint8)
    rows.reshape(-1)[rows.size - len(data) :] = data
    places = rows + _row_places()
    states = np.bitwise_xor.reduce(_row_tables().take(places), axis=1)
    zeros = _ROW_BYTES
    while len(states) > 1:
        states = _after_zeros(states[0::2], zeros) ^ states[1::2]
        zeros *= 2
    return int(states[0])


@lru_cache(maxsize=256)
def _of_zeros(size: int) -> int:
    """The CRC-32C of so many zero bytes."""
    return int(_after_zeros(np.array([_ONES], np.uint32), size)[0]) ^ _ONES


def _after_zeros(states: UInt32, zeros: int) -> UInt32:
    """The registers after so many zero bytes."""
    power = 0
    while zeros >> power:
        if zeros >> power & 1:
            states = _applied(_power(power), states)
        power += 1
    return states


def _applied(operator: UInt32, states: UInt32) -> UInt32:
    """An operator, uint32[4, 256] by the register's bytes, applied to registers."""
    found: UInt32 = operator[0][states & 0xFF]
    for i in (1, 2, 3):
        found = found ^ operator[i][states >> np.uint32(8 * i) & 0xFF]
    return found


@lru_cache(maxsize=64)
def _power(power: int) -> UInt32:
    """The operator of 2^power zero bytes."""
    if power:
        half = _power(power - 1)
        return _applied(half, half.reshape(-1)).reshape(4, 256)
    registers = np.arange(256, dtype=np.uint32)[None, :] << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    found: UInt32 = registers >> np.uint32(8) ^ _byte_table()[registers & 0xFF]
    return found


@lru_cache(maxsize=1)
def _byte_table() -> UInt32:
    """What a byte adds if none follows."""
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, row >> np.uint32(1) ^ np.uint32(_POLYNOMIAL), row >> np.uint32(1))
    return row


@lru_cache(maxsize=1)
def _byte_list() -> list[int]:
    table: list[int] = _byte_table().tolist()
    return table


@lru_cache(maxsize=1)
def _row_tables() -> UInt32:
    return tables_for(list(range(_ROW_BYTES - 1, -1, -1))).reshape(-1)


@lru_cache(maxsize=1)
def _row_places() -> npt.NDArray[np.int32]:
    """Where the table of each byte of a row begins."""
    return np.arange(0, 256 * _ROW_BYTES, 256, dtype=np.int32)
