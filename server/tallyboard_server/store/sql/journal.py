"""The journal: blocks as they were received (level 0), in one B-tree by run and position."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from tallyboard_server.model import POSITION_MAX, Block
from tallyboard_server.store.sql.codec import pack_ids, pack_rows, unpack_equal_rows, unpack_ids, unpack_rows
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.rows import RowBuffer

Place = tuple[int, int, int]
"""(run id, counter id, attempt)."""

POSITION_BITS: Final = POSITION_MAX.bit_length()
"""32: the contract gives no higher position, and a position's successor fits, too. With run ids below 2^31 the two are
one SQLite integer key."""

MIN_BLOCKS_SUPERSEDED: Final = 8
_SLAB_BYTES: Final = 8 * 2**20
"""Journal rows that are turned into columns together."""

_BLOCKS_OF = (
    "SELECT 1 FROM journal INDEXED BY journal_by_attempt WHERE counter_id = a.counter_id AND attempt = a.number "
    "AND id BETWEEN :first AND :last LIMIT 1"
)
MERGEABLE: Final = (
    "SELECT counter_id, number FROM attempts AS a WHERE run_id = :run_id AND ("  # noqa: S608 - constants
    f"EXISTS ({_BLOCKS_OF} OFFSET :more) OR number < (SELECT max(number) FROM attempts AS b "
    f"WHERE b.run_id = a.run_id AND b.counter_id = a.counter_id) AND EXISTS ({_BLOCKS_OF} OFFSET :few)) "
    "ORDER BY counter_id, number"
)
"""Looks at no more of an attempt's journal than it takes to know: the journal of a run may have millions of rows."""

_JOURNAL = "SELECT id, counter_id, attempt, n, tag_ids, at_counters, data FROM journal "


def journal_key(run_id: int, pos: int) -> int:
    """The journal's key of a run's position."""
    return run_id << POSITION_BITS | pos


def append(rows: RowBuffer, run_id: int, blocks: Sequence[Block]) -> None:
    """Add one batch's blocks to the journal rows that wait to be written."""
    for block in blocks:
        rows.add(
            "journal",
            (
                journal_key(run_id, block.pos),
                block.counter_id,
                block.attempt,
                blocks[0].pos,
                len(block.steps),
                int(block.steps[0]),
                int(block.steps[-1]),
                pack_ids(block.tag_ids),
                pack_ids(np.fromiter(block.at, np.int32, len(block.at))),
                pack_rows(block),
            ),
        )


def read_journal(
    connection: Connection, run_id: int, *, after_pos: int, bytes_max: int, up_to_pos: int | None = None
) -> list[Block]:
    """Blocks after a position, in order, whole batches: at least one if there is one, then up to bytes_max."""
    last = journal_key(run_id, up_to_pos) if up_to_pos is not None else journal_key(run_id + 1, 0) - 1
    found: list[Block] = []
    size = 0
    newest_batch = 0
    for batch, *row in connection.stream(
        "SELECT batch, id, counter_id, attempt, n, tag_ids, at_counters, data FROM journal "
        "WHERE id BETWEEN ? AND ? ORDER BY id",
        (journal_key(run_id, after_pos + 1), last),
    ):
        if size >= bytes_max and batch != newest_batch:
            break
        newest_batch = batch
        found.append(_block(tuple(row)))
        size += len(row[6])
    return found


def last_step_before(connection: Connection, place: Place, step: int) -> int | None:
    """The largest step below `step` that the journal holds of an attempt; it is in the newest batch that has one."""
    run_id, counter_id, attempt = place
    journal = (journal_key(run_id, 0), journal_key(run_id + 1, 0) - 1, counter_id, attempt, step)
    batch = connection.execute(
        "SELECT batch FROM journal WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? AND first_step < ? "
        "ORDER BY id DESC LIMIT 1",
        journal,
    ).get
    if batch is None:
        return None
    rows = connection.execute(
        _JOURNAL + "WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? AND first_step < ? AND batch = ?",
        (*journal, batch),
    )
    return max(int(block.steps[np.searchsorted(block.steps, step) - 1]) for block in map(_block, rows))


def mergeable(connection: Connection, run_id: int, up_to_pos: int, min_blocks: int) -> list[tuple[int, int]]:
    """(counter id, attempt) of every attempt with at least min_blocks journal blocks up to a position.

    Of superseded attempts, which hardly grow any more, few are enough.
    """
    few = min(min_blocks, MIN_BLOCKS_SUPERSEDED)
    return [
        (counter_id, attempt)
        for counter_id, attempt in connection.execute(
            MERGEABLE,
            {
                "run_id": run_id,
                "first": journal_key(run_id, 0),
                "last": journal_key(run_id, up_to_pos),
                "more": min_blocks - 1,
                "few": few - 1,
            },
        )
    ]


def read_whole_batches(
    connection: Connection,
    run_id: int,
    counter_id: int,
    attempt: int,
    *,
    up_to_pos: int,
    rows_max: int,
    bytes_max: int,
) -> list[Block]:
    """The oldest journal blocks of an attempt, whole batches only, up to a position and about so many rows and bytes.

    At least one batch if one is complete; a batch that goes on beyond up_to_pos is left for later.
    """
    cut = connection.execute(
        "SELECT batch FROM journal WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1",
        (journal_key(run_id, up_to_pos + 1), journal_key(run_id + 1, 0) - 1),
    ).get
    last_pos = up_to_pos if not isinstance(cut, int) else min(up_to_pos, cut - 1)
    found: list[Block] = []
    rows = nbytes = 0
    newest_batch = 0
    for batch, *row in connection.stream(
        "SELECT batch, id, counter_id, attempt, n, tag_ids, at_counters, data FROM journal "
        "WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? ORDER BY id",
        (journal_key(run_id, 0), journal_key(run_id, last_pos), counter_id, attempt),
    ):
        if (rows >= rows_max or nbytes >= bytes_max) and batch != newest_batch:
            break
        newest_batch = batch
        found.append(_block(tuple(row)))
        rows += row[3]
        nbytes += len(row[6])
    return found


def _block(row: tuple[int, int, int, int, bytes, bytes, bytes]) -> Block:
    key, counter_id, attempt, n, tag_ids, at_counters, data = row
    return unpack_rows(key & ((1 << POSITION_BITS) - 1), counter_id, attempt, n, tag_ids, at_counters, data)


def read_level_0(
    connection: Connection,
    place: Place,
    tag_id: int | None,
    first_step: int,
    last_step: int,
) -> Iterator[Block]:
    """Blocks of the journal by ascending first step: sorted by key first, so that only few at a time are in memory."""
    run_id, counter_id, attempt = place
    keys: list[tuple[int]] = connection.execute(
        "SELECT id FROM journal WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? AND last_step >= ? "
        "AND first_step <= ? ORDER BY first_step, id",
        (journal_key(run_id, 0), journal_key(run_id + 1, 0) - 1, counter_id, attempt, first_step, last_step),
    ).fetchall()
    for [row] in connection.several(_JOURNAL + "WHERE id = ?", keys):
        block = _block(row)
        yield from (block,) if tag_id is None else _with_tags(block, (tag_id,))


def read_columns(
    connection: Connection, place: Place, tag_ids: Collection[int], first_step: int, last_step: int
) -> list[Block]:
    """The journal's rows of an attempt that may hold steps in the range, reduced to some tags.

    Blocks of the same shape come as one, so the rows of these are in no order.
    """
    run_id, counter_id, attempt = place
    shapes: dict[tuple[int, bytes, bytes], list[bytes]] = {}
    found: list[Block] = []
    held = 0

    def take() -> None:
        for (n, tags, at_counters), rows in shapes.items():
            found.extend(_with_tags(unpack_equal_rows(counter_id, attempt, n, tags, at_counters, rows), tag_ids))
        shapes.clear()

    for n, tags, at_counters, data in connection.stream(
        "SELECT n, tag_ids, at_counters, data FROM journal WHERE id BETWEEN ? AND ? AND counter_id = ? "
        "AND attempt = ? AND last_step >= ? AND first_step <= ? ORDER BY id",
        (journal_key(run_id, 0), journal_key(run_id + 1, 0) - 1, counter_id, attempt, first_step, last_step),
    ):
        shapes.setdefault((n, tags, at_counters), []).append(data)
        held += len(data)
        if held >= _SLAB_BYTES:
            take()
            held = 0
    take()
    return found


def count_points(
    connection: Connection, place: Place, tag_ids: Collection[int], first_step: int, last_step: int
) -> dict[int, int]:
    """By tag id, points of an attempt in blocks that may hold steps in the range."""
    run_id, counter_id, attempt = place
    found: dict[int, int] = {}
    for tags, n in connection.execute(
        "SELECT tag_ids, CAST(sum(n) AS BIGINT) FROM journal "
        "WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? AND last_step >= ? AND first_step <= ? "
        "GROUP BY tag_ids",
        (journal_key(run_id, 0), journal_key(run_id + 1, 0) - 1, counter_id, attempt, first_step, last_step),
    ):
        for tag_id in unpack_ids(tags).tolist():
            if tag_id in tag_ids:
                found[tag_id] = found.get(tag_id, 0) + n
    return found


def _with_tags(block: Block, tag_ids: Collection[int]) -> Iterator[Block]:
    """The block with some tags only, if it has any of them; a copy, so that the rest can go."""
    columns = [column for column, tag_id in enumerate(block.tag_ids.tolist()) if tag_id in tag_ids]
    if columns:
        yield replace(block, tag_ids=block.tag_ids[columns], values=block.values[:, columns])
