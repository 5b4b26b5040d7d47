"""A stream's batches on disk: added by its job, sent by the job or by `tallyboard sync`.

What was added survives the death of the process at once, and the death of the machine once it is synced.
"""

from pathlib import Path
from typing import Self

from tallyboard.outbox.cursor import CursorFile, Position, Progress
from tallyboard.outbox.parcel import Parcel
from tallyboard.outbox.segments import SEGMENT_BYTES_MAX, SegmentReader, SegmentWriter, Survey, survey
from tallyboard.outbox.spooldir import CURSOR, SpoolDir, sync_folder
from tallyboard.outbox.stream import Stream
from tallyboard.wire import Receipt


class DiskSpool:
    """First in, first out. Not thread-safe. Its methods raise OSError if the disk does."""

    def __init__(self, folder: SpoolDir, stream: Stream, cursor: CursorFile, progress: Progress) -> None:
        self.folder = folder
        self.stream = stream
        self.progress = progress
        self._cursor = cursor
        self._writer: SegmentWriter | None = None
        self._reader = SegmentReader(folder, Position(), self._grows)

    @classmethod
    def create(
        cls,
        root: Path,
        stream: Stream,
        progress: Progress,
        *,
        sends: bool = True,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
    ) -> Self:
        """A new one below `root`, for a job that adds batches; sends: and sends them too."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = SpoolDir(root / stream.uid)
        folder.path.mkdir(mode=0o700, exist_ok=True)
        try:
            if not folder.writer_lock.acquire() or (sends and not folder.sender_lock.acquire()):
                raise BlockingIOError(f"{folder.path} is in use by another process")
            cursor = CursorFile(folder.path / CURSOR)
            spool = cls(folder, stream, cursor, progress)
            spool._writer = SegmentWriter(folder, segment_bytes_max)
            cursor.save(Position(), progress, sync=True)
            folder.save(stream)  # last: what has a header is a stream
            sync_folder(root)
        except BaseException:
            folder.close()
            raise
        return spool

    @classmethod
    def take(cls, folder: SpoolDir) -> Self | None:
        """One that is there, to send what it holds; None if somebody else does. Raises NoSpoolError too."""
        if not folder.sender_lock.acquire():
            return None
        try:
            stream = folder.load()
            cursor = CursorFile(folder.path / CURSOR)
            position, progress = cursor.load() or (Position(), Progress())
            spool = cls(folder, stream, cursor, progress)
            spool._reader.position = max(position, Position(min(folder.segments(), default=1), 0))
        except BaseException:
            folder.close()
            raise
        return spool

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def damaged_bytes(self) -> int:
        """What could not be read and was passed over."""
        return self._reader.damaged_bytes

    def is_abandoned(self) -> bool:
        """Whether no job adds batches any more. Once true it stays so."""
        return self._writer is None and self.folder.writer_lock.acquire()

    def append(self, parcel: Parcel) -> None:
        """Put one at the end, whole or not at all."""
        if self._writer is None:
            raise PermissionError(f"{self.path} belongs to another process's job")
        self._writer.append(parcel)

    def head(self) -> Parcel | None:
        """The oldest, which stays until it is taken or passed; None if there is none (yet)."""
        return self._reader.head()

    def taken(self, parcel: Parcel, receipt: Receipt) -> None:
        """The service took the oldest."""
        self.pop(self.progress.taken(parcel, receipt))

    def passed(self, parcel: Parcel) -> None:
        """The oldest is given up."""
        self.pop(self.progress.passed(parcel))

    def pop(self, progress: Progress) -> None:
        """Go behind the oldest, where progress is this. It is gone even if the disk could not be told."""
        before, self.progress = self.progress, progress
        segment = self._reader.position.segment
        self._reader.advance()
        self._reader.head()
        turned = self._reader.position.segment > segment
        # Other batches got the numbers after one that was passed, and segments that are gone can't be sent again:
        # a power cut must not take the cursor back behind either.
        self._cursor.save(self._reader.position, progress, sync=turned or progress.seq == before.seq)
        if turned:
            self._reader.remove_delivered()

    def note(self, progress: Progress) -> None:
        """Batches went past the disk: keep how far the stream has come."""
        self.progress = progress
        self._cursor.save(self._reader.position, progress, sync=True)

    def restart(self) -> None:
        """Keep a new producer, which counts from 1 again: the header first, whose `reopening` has a fixed number."""
        self.folder.save(self.stream)
        self._cursor.save(self._reader.position, self.progress, sync=True)

    def settle(self) -> None:
        """Keep what was settled of the stream, behind what is acknowledged."""
        self._cursor.save(self._reader.position, self.progress, sync=True)
        self.folder.save(self.stream)

    def nbytes(self) -> int:
        """Bytes on disk, delivered ones not yet removed included."""
        return self.folder.nbytes()

    def survey(self) -> Survey:
        """What waits."""
        return survey(self.folder, self._reader.position)

    def sync(self) -> None:
        """Have on the disk itself what was added."""
        if self._writer is not None:
            self._writer.sync()

    def remove(self) -> None:
        """Remove it from the disk: all of it is delivered."""
        self._close_files()
        self.folder.remove()

    def close(self) -> None:
        """Let go of files and locks. In a forked child this leaves the parent's as they are."""
        self._close_files()
        self.folder.close()

    def _close_files(self) -> None:
        self._cursor.close()
        self._reader.close()
        if self._writer is not None:
            self._writer.close()

    def _grows(self) -> bool:
        return self._writer is None and not self.folder.writer_lock.acquire()
