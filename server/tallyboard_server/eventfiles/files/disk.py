"""File operations of the exporter: one seam for tests to put faults in, and a bounded number of open descriptors."""

import errno
import os
import stat
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Final

from tallyboard_server import durable

_FILE_MODE: Final = 0o644
"""Readable by a TensorBoard of another user; the umask narrows it."""


_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""No such file, or something that is none: a link, a directory, a socket."""


OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)
"""No descriptor is left to this process, or to the system."""


class NotOurFileError(OSError):
    """What stands under an event file's name is no regular file, or no longer the one that was written."""


class Disk:
    """What the exporter asks of the file system. Everything raises OSError; nothing follows a link to a file."""

    def make_directory(self, path: Path, root: Path) -> None:
        """Create a directory below `root` with its parents, so that they survive a power failure."""
        missing = []
        at = path
        while not at.exists() and at != root.parent:
            missing.append(at)
            at = at.parent
        for directory in reversed(missing):
            directory.mkdir(exist_ok=True)
            self.sync_directory(directory.parent)

    def create(self, path: Path) -> int:
        """A descriptor for a new file; an old one of that name is an error."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)

    def open(self, path: Path) -> int:
        """A descriptor for writing to a file that exists; NotOurFileError if there is none."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NOT_THERE:
                raise NotOurFileError(f"{path} is missing, or not a regular file") from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotOurFileError(f"{path} is not a regular file")
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data` at an offset."""
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            view = view[written:]
            offset += written

    def sync(self, fd: int) -> None:
        """Return once a file's data is on disk."""
        os.fsync(fd)

    def sync_directory(self, path: Path) -> None:
        """Return once a directory's entries are on disk."""
        durable.sync_directory(path)

    def rename(self, old: Path, new: Path) -> None:
        """Give a complete file its final name."""
        old.rename(new)

    def remove(self, path: Path) -> None:
        """Remove a file (never what a link points to); none being there is fine, and a directory stays."""
        with suppress(IsADirectoryError):
            path.unlink(missing_ok=True)

    def remove_empty_directories(self, path: Path, root: Path) -> None:
        """Remove a directory and those above it, up to but without `root`, as long as they are empty."""
        while path != root and path.is_relative_to(root):
            try:
                path.rmdir()
            except OSError:  # not empty, gone already, or not ours to remove: all fine
                return
            path = path.parent

    def list_names(self, path: Path) -> list[str]:
        """Names in a directory, sorted; none if it does not exist."""
        try:
            return sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return []

    def head(self, path: Path, size: int) -> tuple[bytes, int] | None:
        """The first `size` bytes of a regular file and its length; None if it is missing or something else."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            return os.pread(fd, size, 0), status.st_size
        finally:
            os.close(fd)


class OpenFiles:
    """Descriptors of the files written last; the least recently used one is closed when there are too many."""

    def __init__(self, disk: Disk, open_max: int) -> None:
        self._disk = disk
        self._open_max = max(1, open_max)
        self._fds: OrderedDict[Path, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._fds)

    def get(self, path: Path) -> int:
        """The descriptor of a file that exists; OSError if it can't be opened."""
        fd = self._fds.get(path)
        if fd is None:
            while len(self._fds) >= self._open_max:
                os.close(self._fds.popitem(last=False)[1])
            fd = self._fds[path] = self._opened(path)
        else:
            self._fds.move_to_end(path)
        return fd

    def _opened(self, path: Path) -> int:
        """Open a file; where descriptors have run out, with half of those that were held so far."""
        try:
            return self._disk.open(path)
        except OSError as error:
            if error.errno not in OUT_OF_FILES or not self._fds:
                raise
            self._open_max = max(1, len(self._fds) // 2)
            self.close_all()
            return self._disk.open(path)

    def check(self, path: Path, length: int) -> int:
        """`get`, for a file that must have a name still and at least `length` bytes; else NotOurFileError."""
        fd = self.get(path)
        status = os.fstat(fd)
        if status.st_nlink == 0 or status.st_size < length:
            self.close(path)
            raise NotOurFileError(f"{path} was removed or cut short")
        return fd

    def close(self, path: Path) -> None:
        """Close a file if it is open."""
        fd = self._fds.pop(path, None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        """Close every file."""
        while self._fds:
            os.close(self._fds.popitem()[1])
