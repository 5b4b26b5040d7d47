"""Where spooled batches lie: one folder per stream, with its header, cursor, locks and segment files.

<spool dir>/<uid>/stream.json     how to go on with it (see Stream)
                  cursor          what is acknowledged (see CursorFile)
                  00000001.seg …  batches, oldest first (see Segments)
                  writer.lock     held by the job for as long as it adds batches
                  sender.lock     held by whoever sends them: the job itself, or `tallyboard sync`
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tallyboard.outbox.locks import FileLock
from tallyboard.outbox.stream import FORMAT, Stream

HEADER: Final = "stream.json"
CURSOR: Final = "cursor"
SEGMENT_SUFFIX: Final = ".seg"
HEADER_BYTES_MAX: Final = 1024 * 1024


class NoSpoolError(Exception):
    """A folder that holds no stream this version can read; the message says why."""


class SpoolDir:
    """One stream's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer_lock = FileLock(path / "writer.lock")
        self.sender_lock = FileLock(path / "sender.lock")

    def exists(self) -> bool:
        """Whether there is a stream."""
        return (self.path / HEADER).exists()

    def load(self) -> Stream:
        """What the header says. Raises NoSpoolError, OSError."""
        try:
            with (self.path / HEADER).open("rb") as file:
                stream = msgspec.json.decode(file.read(HEADER_BYTES_MAX), type=Stream)
        except FileNotFoundError as error:
            raise NoSpoolError(f"{self.path} holds no {HEADER}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoSpoolError(f"{self.path / HEADER} can't be read: {error}") from error
        if stream.format != FORMAT:
            raise NoSpoolError(f"{self.path} was written by another version (format {stream.format})")
        return stream

    def save(self, stream: Stream) -> None:
        """Replace the header, on the disk itself. Raises OSError."""
        target = self.path / HEADER
        temporary = target.with_suffix(".new")
        with open(temporary, "wb", opener=_private) as file:
            file.write(msgspec.json.format(msgspec.json.encode(stream), indent=1))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        self.sync()

    def sync(self) -> None:
        """Make the names of its files as durable as what they hold. Raises OSError."""
        sync_folder(self.path)

    def segments(self) -> list[int]:
        """The numbers of its segment files, ascending. Raises OSError."""
        return sorted(
            int(entry.name.removesuffix(SEGMENT_SUFFIX))
            for entry in os.scandir(self.path)
            if entry.name.endswith(SEGMENT_SUFFIX) and entry.name.removesuffix(SEGMENT_SUFFIX).isdigit()
        )

    def segment(self, number: int) -> Path:
        """The file of a segment."""
        return self.path / f"{number:08d}{SEGMENT_SUFFIX}"

    def nbytes(self) -> int:
        """Bytes of its segments, delivered ones not yet removed included. Raises OSError."""
        total = 0
        for entry in os.scandir(self.path):
            if entry.name.endswith(SEGMENT_SUFFIX):
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:  # whoever sends them removed it
                    continue
        return total

    def remove(self) -> None:
        """Remove all of it; the locks last, so that nobody else takes it meanwhile. Raises OSError."""
        (self.path / HEADER).unlink(missing_ok=True)
        for entry in list(self.path.iterdir()):
            if entry.suffix != ".lock":
                entry.unlink(missing_ok=True)
        shutil.rmtree(self.path)
        self.close()

    def close(self) -> None:
        """Let go of its locks."""
        self.writer_lock.release()
        self.sender_lock.release()


def stream_dirs(root: Path) -> Iterator[SpoolDir]:
    """The streams in a spool dir, in the order of their names; `root` itself if it is one. Raises OSError."""
    if (root / HEADER).is_file():
        yield SpoolDir(root)
    elif root.is_dir():
        for path in sorted(root.iterdir()):
            if (path / HEADER).is_file():
                yield SpoolDir(path)


def _private(path: str, flags: int) -> int:
    """Open a file that only its user can read: a run's config may hold anything."""
    return os.open(path, flags, 0o600)


def sync_folder(path: Path) -> None:
    """Sync a folder's names. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
