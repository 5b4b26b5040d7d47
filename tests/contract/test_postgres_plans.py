"""What is quick in a small database stays so in a large one: rows are found by keys, not by reading tables."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.sql.transaction import PURGE_ROWS_MAX
from tests.contract.blocks import block
from tests.contract.test_groups import a_run
from tests.contract.test_store import append, merge_all
from tests.postgres_stores import PostgresStores
from tests.stores import on

pytestmark = on("postgres")

RUNS: Final = 50_000
PAGE: Final = 1_000
ROWS: Final = 50_000
DELETED: Final = 10_000
FILES: Final = 60_000
TAGS: Final = 200
QUICK_S: Final = 5.0
_RUN: Final = "'w', null, null, repeat('n', 100), '[]', '{}', '{}', '{}', '[]', 0"


class Large:
    """A database that is filled without a store."""

    def __init__(self, stores: PostgresStores, folder: Path) -> None:
        self._stores = stores
        self._database = stores.database(folder)
        self.url = stores.url(folder)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self._stores.server.query(statement, database=self._database)

    def rows_read(self, table: str) -> int:
        """Since it was made: as far as the sessions have ended that read them."""
        [(rows,)] = self.query(
            f"SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables "
            f"WHERE relname = '{table}'"
        )
        return int(rows)

    def fill(self, table: str, run_id: int) -> None:
        """Give a table ROWS small rows of a run."""
        row = {
            "journal": f"({run_id}::bigint << 32) | p, 1, 1, p, 1, p, p, '', '', repeat('d', 400)::bytea",
            "envelopes": f"{run_id}, p, 1, 1, 1, 1, 1, '', ''",
        }[table]
        self.query(f"INSERT INTO {table} SELECT {row} FROM generate_series(1, {ROWS}) AS p")


@pytest.fixture
def large(stores: PostgresStores, tmp_path: Path) -> Iterator[Large]:
    yield Large(stores, tmp_path)
    stores.remove(tmp_path)


def test_a_page_of_heads_reads_no_runs_before_it(large: Large) -> None:
    large.query(f"INSERT INTO runs SELECT i, 'p/' || i, 'u' || i, 1, {_RUN} FROM generate_series(1, {RUNS}) AS i")
    large.query(f"INSERT INTO heads SELECT i, 1, 0, 1, 1 FROM generate_series(1, {RUNS}) AS i")
    large.query("ANALYZE")
    before = large.rows_read("runs")
    store = PostgresStore.open(large.url)
    with store.snapshot() as view:
        page = view.heads(after_id=RUNS - 2000, limit=PAGE)
    store.close()
    assert [head.run_id for head in page] == list(range(RUNS - 1999, RUNS - 1999 + PAGE))
    assert large.rows_read("runs") - before <= 2 * PAGE


@pytest.mark.parametrize("table", ["journal", "envelopes"])
def test_a_slice_of_a_large_deleted_run_reads_no_other_run(large: Large, table: str) -> None:
    for run_id in (1, 2):
        large.fill(table, run_id)
    large.query("INSERT INTO deleted_runs VALUES (2, 'p/large', 0)")
    large.query("ANALYZE")
    before = large.rows_read(table)
    store = PostgresStore.open(large.url)
    for _ in range(3):
        with store.transaction() as transaction:
            assert transaction.purge()
    store.close()
    removed = 2 * ROWS - int(large.query(f"SELECT count(*) FROM {table}")[0][0])
    assert removed == 3 * PURGE_ROWS_MAX
    assert large.rows_read(table) - before <= 2 * ROWS + 3 * removed  # counted, and found and deleted


def test_what_is_known_of_many_deleted_runs_goes_quickly(large: Large) -> None:
    """Runs that are removed but for their files, in number, beside many files, on a server with little memory."""
    large.query(f"ALTER DATABASE {large._database} SET work_mem = '64kB'")
    large.query(f"INSERT INTO deleted_runs SELECT i, 'p', 1 FROM generate_series(1, {DELETED}) AS i")
    large.query(
        f"INSERT INTO generations SELECT i, 1, 'f', 1, 1, 0, 1, 1, 1, 'live', 1 FROM generate_series(2, {FILES}) AS i"
    )
    large.query("ANALYZE")
    store = PostgresStore.open(large.url)
    begun = time.monotonic()
    with store.transaction() as transaction:
        assert not transaction.purge()
    assert time.monotonic() - begun < QUICK_S
    store.close()
    assert large.query("SELECT count(*), min(run_id) FROM deleted_runs") == [(DELETED - 1, 2)]


def test_a_merge_takes_few_turns_however_many_tags_there_are(
    stores: PostgresStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it lasts nobody can report to the run, and a turn to another machine takes up to a millisecond."""
    store = stores.open(tmp_path)
    state = a_run(store, 0)
    for pos in (1, 2):
        state = append(store, state, [block(pos, [pos], tuple(range(TAGS)))])
        merge_all(store, state)
    with store.snapshot() as view:
        groups = view.groups(state.id, 1, 1)
        blocks = [made for group in groups for made in view.group_blocks(group)]
    merge = store.prepare_merge(state.id, blocks, groups)
    turns = []
    wait = psycopg.Connection.wait

    def counted(connection: Any, *arguments: Any, **named: Any) -> Any:
        turns.append(1)
        return wait(connection, *arguments, **named)

    monkeypatch.setattr(psycopg.Connection, "wait", counted)
    with store.transaction() as transaction:
        transaction.merge(merge)
    assert len(turns) < TAGS / 4
    with store.snapshot() as view:
        assert [len(made.tag_ids) for group in view.groups(state.id, 1, 1) for made in view.group_blocks(group)] == [
            TAGS
        ]
    store.close()
    stores.remove(tmp_path)
