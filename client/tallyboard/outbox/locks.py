"""Locks between processes, that end with their holder however it ends."""

import os
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # a system without flock
    fcntl = None

SUPPORTED: bool = fcntl is not None and hasattr(os, "pread")
"""Whether this system has what a disk spool needs."""


class FileLock:
    """Held by one open file at a time. A forked child must `abandon` it: it shares the open file with its parent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take it if it is free. Raises OSError if its file can't be had."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), self._path.stat()):
                raise BlockingIOError  # it was removed meanwhile: what we hold locks nothing
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let others have it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    abandon = release
    """In a forked child: closing its copy leaves the parent's lock in place (unlocking would not)."""
