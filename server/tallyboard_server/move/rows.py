"""Rows of a table: from one end to the other in the order of their keys, and side by side to see what differs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tallyboard.wire.limits import MIB
from tallyboard_server.move.ends import End, Ends
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.store.sql.tables import Row, Table

BATCH_BYTES: Final = 4 * MIB
"""Of one transaction; a row more may be in it, of up to 8 MiB."""
BATCH_ROWS: Final = 2_000
_COMPARED_ROWS: Final = 2_000
"""Rows compared between two signs of life."""
_SHOWN_CHARS: Final = 60

Changed = Callable[[Row], Row]
"""What a row of the source is in the target."""


def copy_rows(ends: Ends, table: Table, changed: Changed) -> Iterator[tuple[int, int]]:
    """Copy what the target has not yet of a table, whose rows came in this order before; yields (rows, bytes) of each
    transaction."""
    for batch in _batches(_rows(ends.source, table, _last_key(ends.target, table)), changed):
        with ends.writing():
            ends.target.connection.put(table, batch)
        yield len(batch), sum(map(_nbytes, batch))


def compare_rows(ends: Ends, table: Table, changed: Changed) -> Iterator[tuple[int, list[str]]]:
    """Read a table at both ends; yields how many rows it read, and what differs in them, in words."""
    differing: list[str] = []
    number = 0
    ours, theirs = map(changed, _rows(ends.source, table)), _rows(ends.target, table)
    one, other = next(ours, None), next(theirs, None)
    while one is not None or other is not None:
        key, other_key = (None if row is None else row[: table.key_length] for row in (one, other))
        if other_key is None or (key is not None and key < other_key):
            differing.append(f"{_place(table, key)} is not in the target")
            one = next(ours, None)
        elif key is None or other_key < key:
            differing.append(f"{_place(table, other_key)} is in the target only")
            other = next(theirs, None)
        else:
            if one != other:
                differing.append(f"{_place(table, key)} differs in {', '.join(_columns(table, one, other))}")
            one, other = next(ours, None), next(theirs, None)
        number += 1
        if number == _COMPARED_ROWS:
            yield number, differing
            number, differing = 0, []
    yield number, differing


def _rows(end: End, table: Table, after: Row | None = None) -> Iterator[Row]:
    """The rows of a table whose keys come after one."""
    keys = ", ".join(table.key)
    where = "" if after is None else f"WHERE ({keys}) > ({', '.join('?' * len(after))}) "
    statement = f"SELECT {', '.join(table.columns)} FROM {table.name} {where}ORDER BY {keys}"  # noqa: S608
    for row in end.connection.stream(statement, after or ()):
        yield tuple(row)


def _last_key(end: End, table: Table) -> Row | None:
    order = ", ".join(f"{column} DESC" for column in table.key)
    statement = f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {order} LIMIT 1"  # noqa: S608
    row = end.connection.execute(statement).fetchone()
    return None if row is None else tuple(row)


def _batches(rows: Iterator[Row], changed: Changed) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(changed(row))
        size += _nbytes(row)
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def without_nul(table: Table, told: Callable[[], object]) -> Changed:
    """PostgreSQL's text can't hold U+0000: it becomes U+FFFD, of which `told` hears. A key with one is a StoreError."""
    texts = [i for i, kind in enumerate(table.columns.values()) if kind == "text"]

    def changed(row: Row) -> Row:
        found = [i for i in texts if isinstance(text := row[i], str) and "\0" in text]
        if not found:
            return row
        if found[0] < table.key_length:
            raise StoreError(f"{_place(table, row[: table.key_length])}: PostgreSQL can't hold a name with U+0000")
        told()
        return tuple(str(v).replace("\0", "\ufffd") if i in found else v for i, v in enumerate(row))

    return changed


def _place(table: Table, key: Sequence[object] | None) -> str:
    shown = ", ".join(_shown(part) for part in key or ())
    return f"{table.name} ({shown})"


def _shown(part: object) -> str:
    text = part.hex() if isinstance(part, bytes) else str(part)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _columns(table: Table, one: Row | None, other: Row | None) -> list[str]:
    pairs = zip(table.columns, one or (), other or (), strict=True)
    return [column for column, value, found in pairs if value != found]


def _nbytes(row: Row) -> int:
    return sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
