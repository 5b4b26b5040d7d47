"""What the rows of a store ask of the engine below: statements in the SQL that SQLite and PostgreSQL share.

Placeholders are `?`, or `:name` with a mapping. Hints to SQLite's planner (`INDEXED BY`, `CROSS JOIN … ON`) may be
there; other engines are given the statement without them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tallyboard_server.store.sql.tables import Row, Table

Values = Sequence[Any] | Mapping[str, Any]


class Result(Protocol):
    """The rows of a statement; none for one that gives none."""

    @property
    def get(self) -> Any:
        """The first row: its value if it has one column, else the row; None if there is no row."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left."""
        ...


class Connection(Protocol):
    """One connection, inside a transaction; used by one thread at a time. Errors are the engine's own."""

    def execute(self, sql: str, values: Values = ..., /) -> Result:
        """Run a statement. All its rows may be held in memory: for many, or long ones, there is `stream`."""
        ...

    def several(self, sql: str, rows: Iterable[Sequence[int]], /) -> Iterator[list[Any]]:
        """The rows of a SELECT for each of these rows of values, in order; a few are asked for together, and held."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run a statement without a result once for each of these rows of values."""
        ...

    def stream(self, sql: str, values: Values = ..., /) -> Iterator[Any]:
        """The rows of a SELECT, of which a few are held at a time; other statements may run meanwhile."""
        ...

    def changes(self) -> int:
        """How many rows the last `execute` changed."""
        ...

    def put(self, table: Table, rows: Sequence[Row], /) -> None:
        """Write whole rows; those of a table that is only `added` to are new, others replace what has their key."""
        ...

    def mapped_errors(self) -> AbstractContextManager[None]:
        """Turn the engine's errors into the store's own."""
        ...
