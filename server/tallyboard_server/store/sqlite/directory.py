"""The data directory: owned by one process at a time, and on a file system whose locks and syncs can be trusted."""

import fcntl
import os
from pathlib import Path
from typing import Final

from tallyboard_server.store.protocol import StoreBusyError, StoreError, StoreFullError

LOCK_NAME: Final = "tallyboard.lock"
DATABASE_NAME: Final = "tallyboard.sqlite3"

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "beegfs",
        "fuse.sshfs",
    }
)


class DataDirectory:
    """A locked data directory; the lock goes with the process, however it ends."""

    def __init__(self, path: Path) -> None:
        """Create the directory if absent and lock it.

        Raises StoreBusyError if another process has it, StoreFullError if it can't be written, StoreError if it
        lies on a network file system.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFullError(f"data directory {path}: {error.strerror}; make it writable") from error
        try:
            refuse_network(path)
            self._take()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def database(self) -> Path:
        """The database file."""
        return self.path / DATABASE_NAME

    def release(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StoreBusyError(
                f"data directory {self.path} is in use by process {holder}; stop it, or give another --data-dir"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)


def refuse_network(path: Path, mounts: str | None = None) -> None:
    """Raise StoreError if `path` is on a network file system, whose locks and syncs SQLite can't rely on.

    `mounts` is the text of /proc/self/mounts; where there is none the check passes.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
    resolved = path.resolve()
    kind_of = {}
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            kind_of[Path(fields[1].replace("\\040", " "))] = fields[2]
    mount = next((p for p in (resolved, *resolved.parents) if p in kind_of), None)
    if mount is not None and kind_of[mount] in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"data directory {path} is on a network file system ({kind_of[mount]}), which can corrupt SQLite; "
            "use a local disk"
        )
