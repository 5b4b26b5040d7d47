"""How far a spool's batches are acknowledged: one small file that no crash can leave half written.

It has two slots, written in turn, each with a serial number and a checksum: the whole one with the larger serial
counts. So an update costs one small write, and a torn one falls back to the state before it. That is safe: batches
after it are sent again under their old numbers, and the service knows them.
"""

import os
import zlib
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from struct import Struct
from typing import Final

from tallyboard.outbox.parcel import Parcel
from tallyboard.wire import Receipt

_FIELDS: Final = Struct("<10Q")
_CRC: Final = Struct("<I")
_SLOT_BYTES: Final = 512
"""Of a slot: what a disk writes whole, so that one slot is never torn by a write of the other."""


@dataclass(slots=True, frozen=True)
class Progress:
    """What became of a stream's batches so far.

    seq: of the last batch that the service took. batches, reports: done with. Of these reports, accepted and refused
    are the receipts' counts, rejected those of batches that the service would not take at all, and replayed those of
    which it said only that it had them already.
    """

    seq: int = 0
    batches: int = 0
    reports: int = 0
    accepted: int = 0
    refused: int = 0
    rejected: int = 0
    replayed: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the service's word accounts for every report."""
        return self.reports == self.accepted + self.refused + self.rejected + self.replayed

    def taken(self, parcel: Parcel, receipt: Receipt) -> "Progress":
        """After the service took the next batch."""
        known = receipt.replayed and receipt.accepted + receipt.refused_count != parcel.reports
        return replace(
            self,
            seq=self.seq + 1,
            batches=self.batches + 1,
            reports=self.reports + parcel.reports,
            accepted=self.accepted + (0 if known else receipt.accepted),
            refused=self.refused + (0 if known else receipt.refused_count),
            replayed=self.replayed + (parcel.reports if known else 0),
        )

    def passed(self, parcel: Parcel) -> "Progress":
        """After the next batch was given up; its number is free still."""
        return replace(
            self,
            batches=self.batches + 1,
            reports=self.reports + parcel.reports,
            rejected=self.rejected + parcel.reports,
        )

    def renumbered(self, seq: int) -> "Progress":
        """With a new producer's count."""
        return replace(self, seq=seq)


@dataclass(slots=True, frozen=True, order=True)
class Position:
    """A place between two batches: a segment's number, and the offset in its file."""

    segment: int = 1
    offset: int = 0


class CursorFile:
    """Position of the next batch and progress before it, on disk. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._serial = 0

    def load(self) -> tuple[Position, Progress] | None:
        """What it says; None if it says nothing whole. Raises OSError."""
        found: list[tuple[int, ...]] = []
        for slot in range(2):
            data = os.pread(self._descriptor, _FIELDS.size + _CRC.size, slot * _SLOT_BYTES)
            if len(data) == _FIELDS.size + _CRC.size and _CRC.unpack_from(data, _FIELDS.size)[0] == _crc(data):
                found.append(_FIELDS.unpack_from(data))
        if not found:
            return None
        self._serial, segment, offset, *fields = max(found)
        return Position(segment, offset), Progress(*fields)

    def save(self, position: Position, progress: Progress, *, sync: bool = False) -> None:
        """Replace what it says; with `sync`, on the disk itself. Raises OSError."""
        self._serial += 1
        fields = _FIELDS.pack(self._serial, position.segment, position.offset, *astuple(progress))
        os.pwrite(self._descriptor, fields + _CRC.pack(zlib.crc32(fields)), self._serial % 2 * _SLOT_BYTES)
        if sync:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _crc(data: bytes) -> int:
    return zlib.crc32(data[: _FIELDS.size])
