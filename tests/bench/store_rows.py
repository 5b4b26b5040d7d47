"""Rows about the store by itself: bytes per scalar, the speed of merging, and how often a scalar is written again."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Final

import numpy as np

from tallyboard_server.ingest import Merger
from tallyboard_server.model import Attempt, Block, Counter, RunMeta, RunState, frozen
from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.protocol import Generation, Store, Transaction
from tallyboard_server.store.sqlite import SqliteStore
from tests.bench.database import database
from tests.bench.plan import Bench
from tests.bench.result import Goal, Row

_TAGS: Final = 10
_BULK_ROWS: Final = 1_000
_SINGLE_SHARE: Final = 10
"""The row that reports one row at a time does so many times fewer of them: each is a block of its own."""
_MERGE_EVERY: Final = 64
"""Blocks between two visits of the merger, as in a service that reports once a second or so."""
_BYTES_MAX: Final = 10.0
_REWRITES_MAX: Final = 5.0
_JOURNAL_BYTES_MAX: Final = 0.1
"""Bytes a scalar that an ended run may have left at level 0."""
_CHUNK_ROWS: Final = 8_192
_CHUNKS_SPARE: Final = 50
_ENDED: Final = 1e12
"""A clock at which any run has been quiet for long."""


def size(bench: Bench) -> Row:
    """Bytes per scalar of ten-tag reports of noise, all in, once they are merged."""
    return _row(bench, "store-size", bench.sizes.store_reports, _BULK_ROWS)


def singles(bench: Bench) -> Row:
    """The same, reported one at a time: what slow runs leave in the store, and how often it was written again."""
    return _row(bench, "store-singles", bench.sizes.store_reports // _SINGLE_SHARE, 1)


def size_on_postgres(bench: Bench) -> list[Row]:
    """Both of the above on PostgreSQL, after a VACUUM, as autovacuum does it; what that leaves free is counted in."""
    rows = [
        _row_on_postgres(bench, "postgres-size", bench.sizes.store_reports, _BULK_ROWS),
        _row_on_postgres(bench, "postgres-singles", bench.sizes.store_reports // _SINGLE_SHARE, 1),
    ]
    for row in rows:
        row.goals = [goal for goal in row.goals if "bytes" not in goal.text and goal.text != "all merged"]
        row.goals.append(Goal("bytes a scalar", f"{row.details['bytes_per_scalar']:.2f}", met=True))
    return rows


def _row(bench: Bench, name: str, reports: int, rows_per_block: int) -> Row:
    with bench.data_folder() as folder, closing(SqliteStore.open(folder)) as store:

        def measured() -> tuple[float, dict[str, float]]:
            shrink(store)
            return float((folder / "tallyboard.sqlite3").stat().st_size), by_table(store, 1)

        return _measured(store, measured, name, reports, rows_per_block)


def _row_on_postgres(bench: Bench, name: str, reports: int, rows_per_block: int) -> Row:
    del bench
    with database() as shared, closing(PostgresStore.open(shared.url)) as store:
        return _measured(store, shared.sizes, name, reports, rows_per_block)


def _measured(
    store: Store, measured: Callable[[], tuple[float, dict[str, float]]], name: str, reports: int, rows_per_block: int
) -> Row:
    """`measured`: bytes of the whole store, and of its tables."""
    empty, _ = measured()
    run = _Run(store)
    blocks = _noise(reports, rows_per_block)
    while some := list(islice(blocks, _MERGE_EVERY)):
        run.append(some)
        run.merge(time.time)
    run.end()
    run.merge(lambda: _ENDED)
    scalars = reports * _TAGS
    full, tables = measured()
    total = (full - empty) / scalars
    parts = {table: nbytes / scalars for table, nbytes in tables.items()}
    with store.snapshot() as view:
        cells = view.cells(1, 1, 1, [_TAGS], rows_max=reports)[_TAGS]
    chunks, points = len(cells), int(cells.count.sum())
    figures = run.merger.stats()
    written = 1 + (figures["merge_scalars_total"] + figures["merge_compacted_scalars_total"]) / scalars
    unmerged = parts.get("journal", 0.0)
    chunks_max = reports / _CHUNK_ROWS + _CHUNKS_SPARE
    return Row(
        name,
        f"merging {scalars / 1e6:g} M scalars, reported {rows_per_block:,} × {_TAGS} at a time",
        rate=scalars / run.merge_s,
        goals=[
            Goal(f"≤ {_BYTES_MAX:g} bytes a scalar", f"{total:.2f}", total <= _BYTES_MAX),
            Goal(f"written ≤ {_REWRITES_MAX:g} times", f"{written:.2f}", written <= _REWRITES_MAX),
            Goal(f"≤ {chunks_max:.0f} chunks a tag", str(chunks), chunks <= chunks_max),
            Goal("all merged", f"{unmerged:.2f} bytes left", unmerged < _JOURNAL_BYTES_MAX),
            Goal("every point stored", f"{points:,} of {reports:,}", points == reports),
        ],
        notes=["bytes a scalar: " + ", ".join(f"{table} {share:.2f}" for table, share in parts.items())],
        details={"bytes_per_scalar": total, "by_table": parts, "written": written, "chunks": chunks, **figures},
    )


class _Run:
    """One run in a store, whose event file is always up to date."""

    def __init__(self, store: Store) -> None:
        self._store = store
        tags = np.arange(1, _TAGS + 1, dtype=np.int32)
        attempt = Attempt(1, "bench", 0, None, None, tags, np.zeros(_TAGS))
        counters = frozen({"global_step": Counter(1, "global_step", None, (attempt,))})
        self._state = RunState(1, "bench/noise", RunMeta(time.time(), time.time()), counters=counters)
        self._clock: Callable[[], float] = time.time
        self.merger = Merger(store, self._record, clock=lambda: self._clock())
        self.merge_s = 0.0

    def append(self, blocks: list[Block]) -> None:
        """Commit blocks, each as a batch of its own."""
        self._state = replace(self._state, pos=blocks[-1].pos, meta=replace(self._state.meta, updated_at=time.time()))

        def work(transaction: Transaction) -> None:
            for block in blocks:
                transaction.save(self._state, [block])
            transaction.save_generation(Generation(1, 1, "f", 1, 1, 0, 0, self._state.pos, 0, "live", 0.0))

        self._record(work)

    def end(self) -> None:
        """The run is finished."""
        self._state = replace(self._state, meta=replace(self._state.meta, status="finished"))
        self._record(lambda transaction: transaction.save(self._state))

    def merge(self, clock: Callable[[], float]) -> None:
        """Let the merger do all that it finds worth doing at that time."""
        self._clock = clock
        begun = time.perf_counter()
        self.merger.merge_run(1)
        self.merge_s += time.perf_counter() - begun

    def _record(self, work: Callable[[Transaction], object]) -> None:
        with self._store.transaction() as transaction:
            work(transaction)
        self._store.maintain()


def _noise(reports: int, rows_per_block: int) -> Iterator[Block]:
    """Blocks of float64 noise, with wall times as a training has them."""
    dice = np.random.default_rng(7)
    tags = np.arange(1, _TAGS + 1, dtype=np.int32)
    wall = 1.7e9
    for pos, first in enumerate(range(0, reports, rows_per_block), 1):
        n = min(rows_per_block, reports - first)
        walls = wall + np.cumsum(dice.exponential(0.05, n))
        wall = float(walls[-1])
        yield Block(pos, 1, 1, tags, np.arange(first, first + n), walls, dice.standard_normal((n, _TAGS)))


def shrink(store: SqliteStore) -> None:
    """Checkpoint, and give all free pages back: what housekeeping does by and by."""
    store._writer.execute("PRAGMA incremental_vacuum")
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def by_table(store: SqliteStore, scalars: int) -> dict[str, float]:
    """Bytes per scalar of the largest tables and of what is left, by SQLite's own account of its pages."""
    rows = store._writer.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC").fetchall()
    sizes = {str(name): float(nbytes) / scalars for name, nbytes in rows if isinstance(nbytes, int)}
    named = dict(list(sizes.items())[:5])
    return named | {"other": sum(sizes.values()) - sum(named.values())}
