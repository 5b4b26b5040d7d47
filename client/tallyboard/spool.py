"""The ordered queue of batches between merge and transmit."""

from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from tallyboard.wire import Batch, limits

SPOOL_BYTES_MAX: Final = 32 * limits.MIB
"""Batches that wait in memory, beside the recorder's own 32 MiB; more are not taken out of the recorder."""
_BATCH_OVERHEAD_BYTES: Final = 1024


@dataclass(slots=True, frozen=True)
class Parcel:
    """A batch on its way, still without a number: that is given when it is first sent.

    closes: the number of sections that are delivered as a whole with this batch; 0 if it is not the last of one.
    """

    batch: Batch
    closes: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its columns, and something for the rest."""
        columns = (c.steps.nbytes + c.wall_times.nbytes + c.values.nbytes for c in self.batch.columns)
        at = (column.nbytes for c in self.batch.columns for column in c.at.values())
        return _BATCH_OVERHEAD_BYTES + sum(columns) + sum(at)


class Spool(Protocol):
    """First in, first out. Used by the sender's thread alone."""

    def has_room(self) -> bool:
        """Whether another section may be put in."""
        ...

    def append(self, parcel: Parcel) -> None:
        """Put one at the end."""
        ...

    def head(self) -> Parcel | None:
        """The oldest, which stays until `pop`."""
        ...

    def pop(self) -> None:
        """Drop the oldest: it was delivered, or can't ever be."""
        ...


class MemorySpool:
    """A spool that ends with the process."""

    def __init__(self, bytes_max: int = SPOOL_BYTES_MAX) -> None:
        self._parcels: deque[Parcel] = deque()
        self._bytes = 0
        self._bytes_max = bytes_max

    def has_room(self) -> bool:
        """Room is judged before a section goes in, so the bound is exceeded by less than what one take brings."""
        return self._bytes < self._bytes_max

    def append(self, parcel: Parcel) -> None:
        """Put one at the end."""
        self._parcels.append(parcel)
        self._bytes += parcel.nbytes

    def head(self) -> Parcel | None:
        """The oldest."""
        return self._parcels[0] if self._parcels else None

    def pop(self) -> None:
        """Drop the oldest."""
        self._bytes -= self._parcels.popleft().nbytes
