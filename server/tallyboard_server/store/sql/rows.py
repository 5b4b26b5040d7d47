"""Rows that wait to be written together: many in one statement, because each costs a turn of the interpreter's lock or
a round trip.
"""

from collections.abc import Iterable

from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.tables import TABLES, Row


class RowBuffer:
    """Rows by table, in order, until `write`."""

    def __init__(self) -> None:
        self._tables: dict[str, list[Row]] = {}

    def add(self, table: str, row: Row) -> None:
        """Let a whole row of a table wait."""
        self._tables.setdefault(table, []).append(row)

    def extend(self, table: str, rows: Iterable[Row]) -> None:
        """Let several rows wait."""
        self._tables.setdefault(table, []).extend(rows)

    def write(self, connection: Connection) -> None:
        """Write all that waits."""
        tables, self._tables = self._tables, {}
        for table, rows in tables.items():
            if rows:
                connection.put(TABLES[table], rows)
