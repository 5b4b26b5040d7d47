"""Rows that wait to be written together: many in one statement, because each statement gives up the interpreter's
lock, and a busy server takes a while to hand it back.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import apsw

Row = tuple[object, ...]

ROWS_PER_STATEMENT_MAX: Final = 64
"""Rows go in powers of two up to this, so that few statements have to be kept prepared."""

_VERBS: Final = dict.fromkeys(
    ("journal", "axes", "value_columns", "axis_cells", "value_cells", "envelopes", "groups"), "INSERT"
)
"""A journal position is written once, and so are merged rows: meeting one again is an error. All other rows replace
their former selves.
"""


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

    def write(self, connection: apsw.Connection) -> None:
        """Write all that waits."""
        tables, self._tables = self._tables, {}
        for table, rows in tables.items():
            begin = 0
            while begin < len(rows):
                left = len(rows) - begin
                count = min(ROWS_PER_STATEMENT_MAX, 1 << (left.bit_length() - 1))
                values = [value for row in rows[begin : begin + count] for value in row]
                connection.execute(_statement(table, len(rows[0]), count), values)
                begin += count


@lru_cache(maxsize=128)
def _statement(table: str, width: int, count: int) -> str:
    row = f"({', '.join('?' * width)})"
    verb = _VERBS.get(table, "INSERT OR REPLACE")
    return f"{verb} INTO {table} VALUES {', '.join([row] * count)}"
