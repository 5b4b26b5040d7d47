"""A stream's batches in numbered files of bounded size: written at one end, read and removed at the other.

Writer and reader may be of different processes; neither touches what the other needs.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tallyboard.outbox import frames
from tallyboard.outbox.claims import claimed
from tallyboard.outbox.cursor import Position
from tallyboard.outbox.parcel import Parcel
from tallyboard.outbox.spooldir import SpoolDir
from tallyboard.wire import limits

SEGMENT_BYTES_MAX: Final = 16 * limits.MIB
"""A segment is closed beyond this, and removed as a whole once its batches are delivered."""


@dataclass(slots=True, frozen=True)
class Survey:
    """What waits. claims: the counters that it rewinds or takes over. nbytes: with damaged and torn batches."""

    batches: int
    reports: int
    nbytes: int
    claims: frozenset[str]


def survey(folder: SpoolDir, position: Position) -> Survey:
    """What waits behind a position, by the heads of its frames. Raises OSError."""
    batches = reports = nbytes = 0
    claims: set[str] = set()
    for number in folder.segments():
        if number < position.segment:
            continue
        with folder.segment(number).open("rb", buffering=0) as file:
            offset = position.offset if number == position.segment else 0
            nbytes += max(0, os.fstat(file.fileno()).st_size - offset)
            while (found := frames.outline(file.fileno(), offset)) is not None:
                batches += 1
                reports += found.reports
                if found.claims:
                    claims |= _claimed(file.fileno(), offset)
                offset = found.end
    return Survey(batches, reports, nbytes, frozenset(claims))


def _claimed(descriptor: int, offset: int) -> set[str]:
    try:
        frame = frames.read(descriptor, offset)
    except (frames.TornFrameError, frames.DamagedFrameError):
        return set()
    return set() if frame is None else claimed(frame.parcel.body)


class SegmentWriter:
    """Adds frames to a stream's last segment. Not thread-safe."""

    def __init__(self, folder: SpoolDir, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        self._folder = folder
        self._bytes_max = segment_bytes_max
        self._descriptor: int | None = None
        self._dirty = False
        self.end = Position()

    def append(self, parcel: Parcel) -> None:
        """Add a frame whole, or raise OSError and leave nothing of it behind."""
        descriptor = self._descriptor
        if descriptor is None or self.end.offset >= self._bytes_max:
            descriptor = self._begin()
        size = frames.size(parcel)
        try:
            _write(descriptor, frames.pack(parcel), self.end.offset)
        except OSError:
            os.ftruncate(descriptor, self.end.offset)
            raise
        self.end = Position(self.end.segment, self.end.offset + size)
        self._dirty = True

    def sync(self) -> None:
        """Have what was added on the disk itself. Raises OSError."""
        if self._dirty and self._descriptor is not None:
            os.fdatasync(self._descriptor)
            self._dirty = False

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _begin(self) -> int:
        number = self.end.segment + (self._descriptor is not None)
        descriptor = os.open(self._folder.segment(number), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.sync()
            self._folder.sync()
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor = descriptor
        self.end = Position(number, 0)
        return descriptor


def _write(descriptor: int, pieces: list[bytes], offset: int) -> None:
    """Write all of it. A disk that fills up takes a part first, and says why only when asked again."""
    size = sum(map(len, pieces))
    written = os.pwritev(descriptor, pieces, offset)
    while written < size:
        rest = memoryview(b"".join(pieces))[written:]
        count = os.pwrite(descriptor, rest, offset + written)
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += count


class SegmentReader:
    """Reads frames in order from a position. Not thread-safe. `damaged_bytes`: what had to be passed over so far.

    growing: whether another process may still be writing to the last segment.
    """

    def __init__(self, folder: SpoolDir, position: Position, growing: Callable[[], bool]) -> None:
        self._folder = folder
        self._growing = growing
        self._descriptor: int | None = None
        self._next: frames.Frame | None = None
        self.position = position
        self.damaged_bytes = 0

    def head(self) -> Parcel | None:
        """The next batch; None if there is no whole one (yet). Raises OSError.

        What is damaged, or torn in a segment that is not the last, is passed over.
        """
        closed = False  # whether the segment can't grow any more, seen before it was read
        while self._next is None:
            torn = False
            try:
                self._next = self._read()
            except frames.DamagedFrameError as error:
                if closed or self._later() or not self._growing():
                    self._pass_over(error.end)
                    continue
                return None  # seen while it is being written
            except frames.TornFrameError:
                torn = True
            if self._next is not None:
                break
            if not closed:
                if not self._later():
                    return None
                closed = True  # and read again: something may have been added just before it was closed
                continue
            if torn:
                self._pass_over(None)
            self._turn_over()
            closed = False
        return self._next.parcel

    def advance(self) -> None:
        """Go behind the batch that `head` gave."""
        if self._next is not None:
            self.position = Position(self.position.segment, self._next.end)
            self._next = None

    def remove_delivered(self) -> None:
        """Remove the segments before the position's. Raises OSError."""
        for number in self._folder.segments():
            if number < self.position.segment:
                self._folder.segment(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _read(self) -> frames.Frame | None:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._folder.segment(self.position.segment), os.O_RDONLY)
            except FileNotFoundError:
                return None
        return frames.read(self._descriptor, self.position.offset)

    def _turn_over(self) -> None:
        """Go on with the next segment."""
        self.close()
        self.position = Position(self._later()[0], 0)

    def _later(self) -> list[int]:
        return [number for number in self._folder.segments() if number > self.position.segment]

    def _pass_over(self, end: int | None) -> None:
        """Leave out one frame, or the rest of the segment if where the next one begins is not known."""
        size = self._folder.segment(self.position.segment).stat().st_size
        end = size if end is None else min(end, size)
        self.damaged_bytes += end - self.position.offset
        self.position = Position(self.position.segment, end)
