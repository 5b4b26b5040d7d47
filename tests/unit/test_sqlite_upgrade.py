"""A store of an older schema: its merged columns have no envelopes, are read all the same, and get them by and by."""

from collections.abc import Sequence
from pathlib import Path

import apsw
import numpy as np
import pytest

from tallyboard_server.ingest import Merger
from tallyboard_server.model import Block
from tallyboard_server.store.protocol import Snapshot
from tallyboard_server.store.sql.codec import compress_floats, compress_ints, pack_ids, pack_rows
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.store.sqlite.migrate import migrations
from tests.contract.blocks import block, points

GROUPS = (
    [block(1, range(300), (1, 2)), block(3, range(50, 90), (3,)), block(4, [299, 301], (3,))],
    [block(9, range(301, 600, 2), (2,)), block(10, range(302, 600, 2), (1, 2), at={2: np.arange(149)})],
)
"""Two merges as the second schema has them: chunks of one tag may overlap within them."""
FRESH = [block(12, [600, 700], (1,))]


def write_old(path: Path) -> None:
    """A data directory of the second schema."""
    path.mkdir()
    connection = apsw.Connection(str(path / "tallyboard.sqlite3"))
    connection.execute("PRAGMA page_size=16384; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL")
    for _, sql in migrations()[:2]:
        connection.execute(sql)
    connection.execute("PRAGMA user_version=2")
    connection.execute(
        "INSERT INTO runs VALUES (1, 'a/b', NULL, 1.0, 'running', NULL, NULL, NULL, '[]', '{}', '{}', '{}', '[]', 0);"
        "INSERT INTO heads VALUES (1, 12, 0, 1, 1e11);"
        "INSERT INTO counters VALUES (1, 1, 'global_step', NULL);"
        "INSERT INTO attempts VALUES (1, 1, 1, 'a', 0, 700, 700, 5, 10, x'', x'', 7);"
        "INSERT INTO generations VALUES (1, 1, 'f', 1, 1, 0, 0, 12, 0, 'live', 1.0)"
    )
    for group in GROUPS:
        for made in group:
            write_axis(connection, made, group[0].pos)
    for made in FRESH:
        head = made.pos, len(made.steps), int(made.steps[0]), int(made.steps[-1]), pack_ids(made.tag_ids)
        connection.execute(
            "INSERT INTO journal VALUES (1 << 32 | ?1, 1, 1, ?1, ?2, ?3, ?4, ?5, x'', ?6)", (*head, pack_rows(made))
        )
    connection.close()


def write_axis(connection: apsw.Connection, made: Block, batch: int) -> None:
    at = np.concatenate([np.empty(0, np.int64), *made.at.values()])
    connection.execute(
        "INSERT INTO axes VALUES (1, 1, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (made.pos, batch, len(made.steps), int(made.steps[0]), int(made.steps[-1]),
         pack_ids(np.fromiter(made.at, np.int32, len(made.at))), pack_ids(made.tag_ids),
         compress_ints(made.steps), compress_floats(made.wall_times), compress_ints(at)),
    )  # fmt: skip
    for column, tag in enumerate(made.tag_ids.tolist()):
        connection.execute(
            "INSERT INTO value_columns VALUES (1, ?, 1, 1, ?, ?)",
            (tag, made.pos, compress_floats(made.values[:, column])),
        )


def curve(view: Snapshot, tag: int, rows_max: int, first: int, last: int) -> list[tuple[int, int, float]]:
    """(count, first step, last value) of cells of tag 3's kind: enough to tell which points they are of."""
    cells = view.cells(1, 1, 1, [tag], first_step=first, last_step=last, rows_max=rows_max).get(tag)
    if cells is None:
        return []
    steps, values = cells.first.steps.tolist(), cells.last.values.tolist()
    return list(zip(cells.count.tolist(), steps, values, strict=True))


def wanted(tag: int, first: int, last: int) -> list[tuple[int, float]]:
    every: Sequence[Block] = [made for group in GROUPS for made in group] + FRESH
    found = [(step, value) for of_tag, step, _, value, _ in points(list(every)) if of_tag == tag]
    return [(step, value) for step, value in found if first <= step <= last]


def check(store: SqliteStore) -> None:
    with store.snapshot() as view:
        assert points(list(view.blocks(1, 1, 1))) == points([*GROUPS[0], *GROUPS[1], *FRESH])
        most = view.points_at_most(1, 1, 1, (1, 2, 3, 4))
        assert [most.get(tag, 0) for tag in (1, 2, 3, 4)] == [len(wanted(tag, 0, 10**6)) for tag in (1, 2, 3, 4)]
        for tag in (1, 2, 3, 4):
            for first, last in ((0, 2**63 - 1), (60, 450), (80, 80), (301, 301), (620, 650)):
                exact = wanted(tag, first, last)
                assert [(step, value) for _, step, value in curve(view, tag, 1, first, last)] == exact
                for rows_max in (100, 128, 1000):
                    begin = 0
                    for count, step, value in curve(view, tag, rows_max, first, last):
                        assert (step, value) == (exact[begin][0], exact[begin + count - 1][1])
                        assert count <= rows_max
                        begin += count
                    assert begin == len(exact)
    with store.transaction() as transaction:
        for step, before in ((0, None), (1, 0), (301, 299), (302, 301), (600, 599), (601, 600), (10**6, 700)):
            assert transaction.last_step_before(1, 1, 1, step) == before


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    write_old(tmp_path / "data")
    return SqliteStore.open(tmp_path / "data")


def test_columns_without_envelopes_are_read_as_they_are(store: SqliteStore) -> None:
    check(store)
    store.close()


def test_the_merger_gives_them_envelopes(store: SqliteStore, tmp_path: Path) -> None:
    def record(work: object) -> None:
        with store.transaction() as transaction:
            work(transaction)  # type: ignore[operator]

    merger = Merger(store, record)
    with store.snapshot() as view:
        assert [group.version for group in view.groups(1, 1, 1)] == [0, 0]
        assert [group.batch for group in view.groups(1, 1, 1)] == [1, 9]
        assert view.growing_attempts(1, min_groups=8) == [(1, 1)]
    merger.merge_run(1)
    with store.snapshot() as view:
        assert all(group.version > 0 for group in view.groups(1, 1, 1))
        assert view.growing_attempts(1, min_groups=8) == []
    assert merger.stats()["merge_compactions_total"] == 1
    held = [table for table in ("axes", "value_columns") for (n,) in store._writer.execute(
        f"SELECT count(*) FROM {table} WHERE {'id' if table == 'axes' else 'axis_id'} < 1000") if n]  # fmt: skip
    assert held == []
    check(store)
    store.close()
    again = SqliteStore.open(tmp_path / "data")
    check(again)
    again.close()
