"""Connections to the database file: how they are opened, and foreign errors mapped at this one boundary."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from tallyboard_server.store.protocol import StoreBusyError, StoreError, StoreFullError

PAGE_BYTES: Final = 16_384
"""A block of 100 reports × 10 scalars (9 KiB) fits into one page."""
CACHE_KIB_WRITER: Final = 32 * 1024
CACHE_KIB_READER: Final = 8 * 1024
BUSY_TIMEOUT_MS: Final = 5_000


def open_writer(path: Path) -> apsw.Connection:
    """Open (or create) the database for the one connection that writes and checkpoints."""
    with mapped_errors():
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        # page_size and auto_vacuum count only before the first table exists.
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        mode = connection.execute("PRAGMA journal_mode=WAL").get
        if mode != "wal":
            raise StoreError(f"{path}: SQLite could not switch to write-ahead logging (mode {mode!r})")
        connection.execute("PRAGMA synchronous=FULL")
        connection.wal_autocheckpoint(0)
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB_WRITER}")
        connection.execute("PRAGMA foreign_keys=ON")
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open the database for reading only."""
    with mapped_errors():
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.wal_autocheckpoint(0)
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB_READER}")
        connection.execute("PRAGMA query_only=ON")
    return connection


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn SQLite's errors into the store's own."""
    try:
        yield
    except (apsw.FullError, apsw.ReadOnlyError) as error:
        raise StoreFullError(f"the database can't grow ({error}); free disk space, then retry") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreBusyError(f"the database is held by someone else ({error}); retry") from error
    except apsw.Error as error:
        raise StoreError(f"SQLite: {error}") from error
