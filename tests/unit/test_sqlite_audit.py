"""The audit in SQLite: nothing changes or removes an entry, but that the oldest go beyond the bound."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tallyboard_server.store.access import AUDIT_ENTRIES_MAX
from tallyboard_server.store.sqlite import SqliteStore
from tests.contract.test_store_audit import entry, note, numbers


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore.open(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("statement", [
    "UPDATE audit SET actor = 'nobody'", "UPDATE audit SET at = 0 WHERE id = 1", "DELETE FROM audit",
    "DELETE FROM audit WHERE id = 1",
])  # fmt: skip
def test_nothing_changes_or_removes_an_entry(store: SqliteStore, statement: str) -> None:
    note(store, entry(1), entry(2))
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        store._writer.execute(statement)
    assert numbers(store) == [2, 1]


def test_beyond_the_bound_the_oldest_go_and_only_they(store: SqliteStore) -> None:
    note(store, *(entry(number) for number in range(1, 6)))
    nearly = AUDIT_ENTRIES_MAX + 998  # as if so many had been written since
    store._writer.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'audit'", (nearly,))
    note(store, entry(6))
    assert numbers(store) == [6, 5, 4, 3, 2, 1]
    note(store, entry(7))  # its id is a multiple of 1,000: what is a million before it goes
    assert numbers(store) == [7, 6]
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        store._writer.execute("DELETE FROM audit WHERE id > 1000")
    assert numbers(store) == [7, 6]
