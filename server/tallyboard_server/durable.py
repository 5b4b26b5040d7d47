"""Files and their names on the disk itself, past the system's memory."""

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Return once a file and its name are on disk. OSError."""
    _sync(path, os.O_RDONLY)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Return once a directory's entries are on disk. OSError."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
