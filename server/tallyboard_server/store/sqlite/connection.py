"""Connections to the database file: how they are opened, and foreign errors mapped at this one boundary."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import apsw

from tallyboard_server.store.protocol import StoreBusyError, StoreError, StoreFullError
from tallyboard_server.store.sql.connection import Values
from tallyboard_server.store.sql.tables import Row, Table

PAGE_BYTES: Final = 16_384
"""A block of 100 reports × 10 scalars (9 KiB) fits into one page."""
CACHE_KIB_WRITER: Final = 32 * 1024
CACHE_KIB_READER: Final = 8 * 1024
BUSY_TIMEOUT_MS: Final = 5_000
ROWS_PER_STATEMENT_MAX: Final = 64
"""Rows go in powers of two up to this, so that few statements have to be kept prepared."""


class SqliteConnection(apsw.Connection):
    """store.sql's Connection: all of it but this little is apsw's own."""

    def stream(self, sql: str, values: Values = ()) -> Iterator[Any]:
        """See Connection.stream: a cursor reads on as it is asked."""
        return self.execute(sql, values)

    def several(self, sql: str, rows: Iterable[Sequence[int]]) -> Iterator[list[Any]]:
        """See Connection.several: there is nothing to gain from asking for some together."""
        for values in rows:
            yield self.execute(sql, values).fetchall()

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See Connection.put."""
        begin = 0
        while begin < len(rows):
            count = min(ROWS_PER_STATEMENT_MAX, 1 << ((len(rows) - begin).bit_length() - 1))
            values = [value for row in rows[begin : begin + count] for value in row]
            self.execute(_put_statement(table.name, table.added, len(rows[0]), count), values)
            begin += count

    def mapped_errors(self) -> AbstractContextManager[None]:
        """See Connection.mapped_errors."""
        return mapped_errors()


@lru_cache(maxsize=128)
def _put_statement(table: str, added: bool, width: int, count: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{'INSERT' if added else 'INSERT OR REPLACE'} INTO {table} VALUES {', '.join([row] * count)}"  # noqa: S608


def open_writer(path: Path) -> SqliteConnection:
    """Open (or create) the database for the one connection that writes and checkpoints."""
    with mapped_errors():
        connection = SqliteConnection(str(path))
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


def open_reader(path: Path) -> SqliteConnection:
    """Open the database for reading only."""
    with mapped_errors():
        connection = SqliteConnection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
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
