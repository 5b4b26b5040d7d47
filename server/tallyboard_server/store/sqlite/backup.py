"""Backup of a database in use, slice by slice, and what makes a backup a data directory again."""

import shutil
from pathlib import Path
from typing import Final

import apsw

from tallyboard_server.durable import sync_directory, sync_file
from tallyboard_server.store.protocol import StoreBusyError, StoreError
from tallyboard_server.store.sqlite.connection import mapped_errors
from tallyboard_server.store.sqlite.directory import LOCK_NAME, DataDirectory
from tallyboard_server.store.sqlite.migrate import migrations, schema_version

SLICE_PAGES: Final = 256
"""Pages copied while the writer waits: 4 MiB, some milliseconds."""
_CACHE_KIB: Final = 8 * 1024
_ROUNDS_MAX: Final = 20
"""SQLite begins anew if a transaction that was too large for its cache is rolled back; so often is enough."""


class Backup:
    """A copy on its way. The source is the writer's own connection: what it commits meanwhile is copied, too.

    (With any other connection as the source, each commit would make the copy begin anew.)
    """

    def __init__(self, source: apsw.Connection, target: Path) -> None:
        """Begin; the target must not exist. Call step() only while nobody else uses the source."""
        if target.exists():
            raise StoreError(f"{target} exists already; name another file")
        self._target = apsw.Connection(str(target))
        self._target.execute("PRAGMA synchronous=OFF")  # synced once, at the end, without the writer waiting for it
        self._target.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._backup = self._target.backup("main", source, "main")
        self._slices = 0

    @property
    def share(self) -> float:
        """How much is done, 0.0 to 1.0."""
        total = self._backup.page_count
        return 1.0 - self._backup.remaining / total if total else 0.0

    def step(self) -> bool:
        """Copy a slice; True when the copy is complete."""
        self._slices += 1
        done: bool = self._backup.step(SLICE_PAGES)
        if not done and self._slices > _ROUNDS_MAX * (1 + self._backup.page_count // SLICE_PAGES):
            raise StoreBusyError("the backup had to begin anew too often; retry when less is written")
        return done

    def close(self) -> None:
        """Let go of the source; an unfinished copy is of no use."""
        self._backup.close(True)
        self._target.close()


def check_backup(path: Path) -> None:
    """Read a whole backup, which nobody may be writing to; StoreError if it is damaged, or none of ours."""
    if not path.is_file():
        raise StoreError(f"there is no file {path}")
    try:
        # immutable: opened without locks or a log, so that even a file on read-only media can be looked at
        connection = apsw.Connection(
            f"{path.resolve().as_uri()}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        try:
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'heads'").get is None:
                raise StoreError(f"{path} is no backup of Tallyboard")
            if schema_version(connection) > len(migrations()):
                raise StoreError(f"{path} was written by a newer Tallyboard; upgrade Tallyboard")
            if (verdict := connection.execute("PRAGMA quick_check(1)").get) != "ok":
                raise StoreError(f"{path} is damaged: {verdict}")
        finally:
            connection.close()
    except apsw.Error as error:
        raise StoreError(f"{path} is damaged, or no backup of Tallyboard: {error}") from error


def restore(source: Path, data_dir: Path) -> None:
    """Make a data directory of a backup. It must be empty or absent; every event file will be written anew.

    Raises StoreError; then nothing is left behind but perhaps the empty directory.
    """
    check_backup(source)
    directory = DataDirectory(data_dir)
    unfinished = data_dir / "restoring.tmp"
    try:
        if there := sorted(entry.name for entry in data_dir.iterdir() if entry.name != LOCK_NAME):
            raise StoreError(f"{data_dir} is not empty (it holds {there[0]}); restore into an empty directory")
        try:
            shutil.copyfile(source, unfinished)
            _retire_event_files(unfinished)
            sync_file(unfinished)
            unfinished.rename(directory.database)
            sync_directory(data_dir)
        except OSError as error:
            raise StoreError(f"{data_dir}: {error.strerror or error}") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{unfinished}{suffix}").unlink(missing_ok=True)
        directory.release()


def _retire_event_files(database: Path) -> None:
    """The files that the backup knows are elsewhere, or hold more than it does."""
    with mapped_errors():
        connection = apsw.Connection(str(database))
        connection.execute("UPDATE generations SET state = 'retired' WHERE state = 'live'")
        connection.close()
