"""A connection of psycopg as the rows of a store use it, and foreign errors mapped at this one boundary.

Nothing here outlives a transaction (no prepared statements, no session settings, no LISTEN), so that proxies may give
each transaction another connection of the server's.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from tallyboard.wire.limits import MIB
from tallyboard_server.store.postgres.binary import ARRAY_OIDS, INT_OID, array, as_bytes, rows_of
from tallyboard_server.store.postgres.exchange import Statement, exchange
from tallyboard_server.store.protocol import StoreBusyError, StoreError, StoreFullError
from tallyboard_server.store.sql.connection import Values
from tallyboard_server.store.sql.tables import TABLES, Kind, Row, Table

COPY_FROM: Final = 1_000
"""Rows from which COPY is quicker than INSERT, though it takes turns of its own."""
BYTES_WAITING_MAX: Final = 8 * MIB
"""About how much waits to be sent with the next statement; a single row may be larger."""
_COMMIT: Final = Statement(b"COMMIT")
STREAM_ROWS: Final = 16
"""Rows of a stream, or statements, that are asked for together: of the largest blocks some 100 MiB, mostly much less.
"""

_TYPES: Final[dict[Kind, str]] = {"int": "int8", "float": "float8", "text": "text", "bytes": "bytea"}
_HINT: Final = re.compile(r"\bINDEXED BY \w+ ?")
_NAMED: Final = re.compile(r"(?<!:):([a-z_]+)")

UNAVAILABLE: Final = (
    psycopg.OperationalError,  # the server is gone, restarts, shuts down, has no connection left, or took too long
    psycopg.InterfaceError,  # the connection was closed under us
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.ReadOnlySqlTransaction,  # it has become a standby
    errors.IdleInTransactionSessionTimeout,
)


class PostgresConnection:
    """store.sql's Connection on one of psycopg's, which is in a transaction that somebody else begins and ends."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._cursor = connection.cursor(binary=True)
        self._streams = 0
        self._waiting: list[Statement] = []
        self._waiting_bytes = 0

    def execute(self, sql: str, values: Values = ()) -> "Rows":
        """See Connection.execute."""
        self._send_waiting()
        self._cursor = cursor = self._connection.cursor(binary=True)
        cursor.execute(_translated(sql), _askable(sql, values))
        return Rows(cursor)

    def several(self, sql: str, rows: Iterable[Sequence[int]]) -> Iterator[list[Any]]:
        """See Connection.several: in turns of STREAM_ROWS statements."""
        text = _numbered(sql)
        waiting = iter(rows)
        while some := list(islice(waiting, STREAM_ROWS)):
            statements = [Statement(text, [as_bytes(v) for v in values], [INT_OID] * len(values)) for values in some]
            yield from map(rows_of, self.exchange(statements))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """See Connection.executemany; all of them are on their way before the first is answered."""
        self._send_waiting()
        with self._connection.cursor(binary=True) as cursor:
            cursor.executemany(_translated(sql), rows)

    def stream(self, sql: str, values: Values = ()) -> Iterator[Any]:
        """See Connection.stream: a cursor of the server's."""
        self._send_waiting()
        self._streams += 1
        with self._connection.cursor(f"rows_{self._streams}", binary=True) as cursor:
            cursor.itersize = STREAM_ROWS
            cursor.execute(_translated(sql), _askable(sql, values))
            yield from cursor

    def changes(self) -> int:
        """See Connection.changes."""
        return max(0, self._cursor.rowcount)

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See Connection.put: rows go with the next statement, or with the end of the transaction."""
        if table.added and len(rows) >= COPY_FROM:
            self._copy(table, rows)
        else:
            begin = nbytes = 0
            for end, row in enumerate(rows, 1):
                nbytes += _size(row)
                if self._waiting_bytes + nbytes >= BYTES_WAITING_MAX or end == len(rows):
                    self._wait(table, rows[begin:end], nbytes)
                    begin, nbytes = end, 0

    def commit(self) -> None:
        """Send what waits, and end the transaction; all of that is durable then."""
        [ended] = self.exchange((_COMMIT,))
        if ended.command_status != b"COMMIT":  # it answers so to a transaction in which a statement had failed
            raise StoreError("PostgreSQL: the transaction was rolled back, because a statement in it had failed before")

    def exchange(self, statements: Sequence[Statement]) -> list[PGresult]:
        """Run statements in one turn, after what waits; what each of them was answered, in binary form."""
        waiting = self._take_waiting()
        return exchange(self._connection, [*waiting, *statements])[len(waiting) :]

    def mapped_errors(self) -> AbstractContextManager[None]:
        """See Connection.mapped_errors."""
        return mapped_errors()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, be it one that can only be rolled back."""
        return self._connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def _wait(self, table: Table, rows: Sequence[Row], nbytes: int) -> None:
        """Let rows wait, and send all that does if it is much."""
        kinds = table.columns.values()
        columns = [array(kind, column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)]
        self._waiting.append(Statement(_put_statement(table.name), columns, [ARRAY_OIDS[kind] for kind in kinds]))
        self._waiting_bytes += nbytes
        if self._waiting_bytes >= BYTES_WAITING_MAX:
            self._send_waiting()

    def _send_waiting(self) -> None:
        if self._waiting:
            exchange(self._connection, self._take_waiting())

    def _take_waiting(self) -> list[Statement]:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return waiting

    def _copy(self, table: Table, rows: Sequence[Row]) -> None:
        self._send_waiting()
        with self._connection.cursor() as cursor, cursor.copy(_copy_statement(table.name)) as copy:
            copy.set_types([_TYPES[kind] for kind in table.columns.values()])
            for row in rows:
                copy.write_row(row)


class Rows:
    """store.sql's Result, on a cursor whose rows are here already."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor
        self._has_rows = cursor.description is not None

    @property
    def get(self) -> Any:
        """See Result.get."""
        row = self.fetchone()
        return row[0] if row is not None and len(row) == 1 else row

    def fetchone(self) -> Any:
        """See Result.fetchone."""
        return self._cursor.fetchone() if self._has_rows else None

    def fetchall(self) -> list[Any]:
        """See Result.fetchall."""
        return self._cursor.fetchall() if self._has_rows else []

    def __iter__(self) -> Iterator[Any]:
        """See Result.__iter__."""
        return iter(self._cursor if self._has_rows else ())


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn psycopg's errors into the store's own."""
    try:
        yield
    except errors.DiskFull as error:
        raise StoreFullError(f"the database can't grow ({_text(error)}); free disk space there, then retry") from error
    except UNAVAILABLE as error:
        raise StoreBusyError(f"the database could not be had ({_text(error)}); retry") from error
    except psycopg.Error as error:
        raise StoreError(f"PostgreSQL: {_text(error)}") from error


def _text(error: Exception) -> str:
    """What the server or libpq said, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _askable(sql: str, values: Values) -> Values:
    """Values to look for, without U+0000, which PostgreSQL has in no text and refuses to hear of.

    U+0001 stands for it: what is looked for by are names, which hold neither, so it equals, begins and parts the same.
    Values to be written are left alone: whoever lets U+0000 come so far is to hear of it.
    """
    if not sql.startswith("SELECT") or isinstance(values, Mapping):
        return values
    if any(isinstance(value, str) and "\0" in value for value in values):
        return [value.replace("\0", "\1") if isinstance(value, str) else value for value in values]
    return values


@lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    """A statement of store.sql as psycopg wants it: none has a `%`, a `?` or a colon of its own."""
    return _NAMED.sub(r"%(\1)s", _plain(sql).replace("?", "%s"))


@lru_cache(maxsize=64)
def _numbered(sql: str) -> bytes:
    """A statement of store.sql as the server wants it."""
    parts = _plain(sql).split("?")
    return "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], 1)).encode() + parts[-1].encode()


def _plain(sql: str) -> str:
    """Without hints for SQLite's planner."""
    return _HINT.sub("", sql).replace("CROSS JOIN", "JOIN")


def _size(row: Row) -> int:
    """About how many bytes a row takes."""
    return sum(len(value) if isinstance(value, (bytes, str)) else 8 for value in row)


@lru_cache(maxsize=64)
def _put_statement(name: str) -> bytes:
    """A row for each place in the arrays: the same statement however many they are."""
    table = TABLES[name]
    arrays = ", ".join(f"${number}" for number in range(1, len(table.columns) + 1))
    text = f"INSERT INTO {name} ({', '.join(table.columns)}) SELECT * FROM unnest({arrays})"  # noqa: S608 - constants
    if not table.added:
        rest = [column for column in table.columns if column not in table.key]
        changes = ", ".join(f"{column} = excluded.{column}" for column in rest)
        text += f" ON CONFLICT ({', '.join(table.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    return text.encode()


@lru_cache(maxsize=64)
def _copy_statement(name: str) -> str:
    return f"COPY {name} ({', '.join(TABLES[name].columns)}) FROM STDIN (FORMAT BINARY)"
