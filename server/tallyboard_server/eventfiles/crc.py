"""The masked CRC-32C that guards both parts of every record in an event file."""

from typing import Final

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

_DELTA: Final = 0xA282EAD8
_ALL: Final = 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC-32C (Castagnoli) of `data`, rotated right by 15 bits plus a constant: uint32."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _DELTA) & _ALL


def mask(crcs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Mask many plain CRC-32C at once; uint32 arithmetic wraps as it should."""
    return ((crcs >> np.uint32(15)) | (crcs << np.uint32(17))) + np.uint32(_DELTA)
