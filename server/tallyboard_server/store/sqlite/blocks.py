"""Blocks as rows: the journal as it grows, merged columns, and one way to read both."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import apsw
import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import POSITION_MAX, Block, Int32
from tallyboard_server.store.merge import merge_blocks
from tallyboard_server.store.sqlite.codec import (
    compress_floats,
    compress_ints,
    decompress_floats,
    decompress_ints,
    pack_ids,
    pack_rows,
    unpack_ids,
    unpack_rows,
)
from tallyboard_server.store.sqlite.rows import RowBuffer

POSITION_BITS: Final = POSITION_MAX.bit_length()
"""32: the contract gives no higher position, and a position's successor fits, too. With run ids below 2^31 the two are
one SQLite integer key."""

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
    connection: apsw.Connection, run_id: int, *, after_pos: int, bytes_max: int, up_to_pos: int | None = None
) -> list[Block]:
    """Blocks after a position, in order, whole batches: at least one if there is one, then up to bytes_max."""
    last = journal_key(run_id, up_to_pos) if up_to_pos is not None else journal_key(run_id + 1, 0) - 1
    found: list[Block] = []
    size = 0
    newest_batch = 0
    for batch, *row in connection.execute(
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


def read_attempt(
    connection: apsw.Connection,
    run_id: int,
    counter_id: int,
    attempt: int,
    *,
    tag_id: int | None,
    first_step: int,
    last_step: int,
) -> Iterator[Block]:
    """Blocks of an attempt that may hold steps in the range, by ascending first step, merged ones first."""
    place = (run_id, counter_id, attempt)
    merged = (
        _read_axes(connection, place, first_step, last_step)
        if tag_id is None
        else _read_columns(connection, place, tag_id, first_step, last_step)
    )
    fresh = _read_level_0(connection, place, tag_id, first_step, last_step)
    return heapq.merge(merged, fresh, key=lambda block: (int(block.steps[0]), block.pos))


def last_step_before(connection: apsw.Connection, run_id: int, counter_id: int, attempt: int, step: int) -> int | None:
    """The largest step below `step` in an attempt.

    Steps of an attempt never decrease from batch to batch, so the newest batch that holds a lower step holds the
    largest of them; within that batch every block is looked at.
    """
    journal = (journal_key(run_id, 0), journal_key(run_id + 1, 0) - 1, counter_id, attempt, step)
    batch = connection.execute(
        "SELECT batch FROM journal WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? AND first_step < ? "
        "ORDER BY id DESC LIMIT 1",
        journal,
    ).get
    if batch is not None:
        rows = connection.execute(
            _JOURNAL + "WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? AND first_step < ? AND batch = ?",
            (*journal, batch),
        )
        return max(_largest_below(_block(row).steps, step) for row in rows)
    axes = (run_id, counter_id, attempt, step)
    batch = connection.execute(
        "SELECT batch FROM axes WHERE run_id = ? AND counter_id = ? AND attempt = ? AND first_step < ? "
        "ORDER BY first_step DESC, batch DESC LIMIT 1",
        axes,
    ).get
    rows = connection.execute(
        "SELECT n, steps FROM axes WHERE run_id = ? AND counter_id = ? AND attempt = ? AND first_step < ? "
        "AND batch = ?",
        (*axes, batch),
    )
    return max((_largest_below(decompress_ints(steps, n), step) for n, steps in rows), default=None)


def mergeable(connection: apsw.Connection, run_id: int, up_to_pos: int, min_blocks: int) -> list[tuple[int, int]]:
    """(counter id, attempt) of every attempt with at least min_blocks journal blocks up to a position."""
    return [
        (counter_id, attempt)
        for counter_id, attempt in connection.execute(
            "SELECT counter_id, attempt FROM journal WHERE id BETWEEN ? AND ? GROUP BY counter_id, attempt "
            "HAVING count(*) >= ?",
            (journal_key(run_id, 0), journal_key(run_id, up_to_pos), min_blocks),
        )
    ]


def read_whole_batches(
    connection: apsw.Connection, run_id: int, counter_id: int, attempt: int, *, up_to_pos: int, rows_max: int
) -> list[Block]:
    """The oldest journal blocks of an attempt, whole batches only, up to a position and about rows_max rows.

    At least one batch if one is complete; a batch that goes on beyond up_to_pos is left for later.
    """
    cut = connection.execute(
        "SELECT batch FROM journal WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1",
        (journal_key(run_id, up_to_pos + 1), journal_key(run_id + 1, 0) - 1),
    ).get
    last_pos = up_to_pos if not isinstance(cut, int) else min(up_to_pos, cut - 1)
    found: list[Block] = []
    rows = 0
    newest_batch = 0
    for batch, *row in connection.execute(
        "SELECT batch, id, counter_id, attempt, n, tag_ids, at_counters, data FROM journal "
        "WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? ORDER BY id",
        (journal_key(run_id, 0), journal_key(run_id, last_pos), counter_id, attempt),
    ):
        if rows >= rows_max and batch != newest_batch:
            break
        newest_batch = batch
        found.append(_block(tuple(row)))
        rows += row[3]
    return found


@dataclass(slots=True, frozen=True)
class PackedMerge:
    """A merge ready to be written: the rows of merged blocks and the positions that they replace."""

    run_id: int
    sources: tuple[int, ...]
    axes: list[tuple[object, ...]]
    columns: list[tuple[object, ...]]


def pack_merge(run_id: int, sources: Sequence[Block]) -> PackedMerge:
    """Merge and compress journal blocks of one attempt (whole batches); takes the time, but no lock."""
    positions = tuple(block.pos for block in sources)
    packed = PackedMerge(run_id, positions, [], [])
    for block in merge_blocks(sources):
        place = (block.counter_id, block.attempt, block.pos)
        packed.axes.append(
            (
                run_id,
                *place,
                min(positions),
                len(block.steps),
                int(block.steps[0]),
                int(block.steps[-1]),
                pack_ids(np.fromiter(block.at, np.int32, len(block.at))),
                pack_ids(block.tag_ids),
                compress_ints(block.steps),
                compress_floats(block.wall_times),
                compress_ints(np.concatenate([np.empty(0, np.int64), *block.at.values()])),
            )
        )
        packed.columns.extend(
            (run_id, int(tag_id), *place, compress_floats(block.values[:, column]))
            for column, tag_id in enumerate(block.tag_ids)
        )
    return packed


def apply_merge(connection: apsw.Connection, merge: PackedMerge) -> None:
    """Put merged rows in the place of their sources, unless a source is gone (the run was deleted)."""
    keys = [(journal_key(merge.run_id, pos),) for pos in merge.sources]
    connection.executemany("DELETE FROM journal WHERE id = ?", keys[:1])
    if not connection.changes():
        return
    connection.executemany("DELETE FROM journal WHERE id = ?", keys[1:])
    connection.executemany("INSERT INTO axes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", merge.axes)
    connection.executemany("INSERT INTO value_columns VALUES (?, ?, ?, ?, ?, ?)", merge.columns)


def _block(row: tuple[int, int, int, int, bytes, bytes, bytes]) -> Block:
    key, counter_id, attempt, n, tag_ids, at_counters, data = row
    return unpack_rows(key & ((1 << POSITION_BITS) - 1), counter_id, attempt, n, tag_ids, at_counters, data)


def _read_level_0(
    connection: apsw.Connection,
    place: tuple[int, int, int],
    tag_id: int | None,
    first_step: int,
    last_step: int,
) -> Iterator[Block]:
    """Blocks of the journal by ascending first step: sorted by key first, so that only one at a time is in memory."""
    run_id, counter_id, attempt = place
    keys = connection.execute(
        "SELECT id FROM journal WHERE id BETWEEN ? AND ? AND counter_id = ? AND attempt = ? AND last_step >= ? "
        "AND first_step <= ? ORDER BY first_step, id",
        (journal_key(run_id, 0), journal_key(run_id + 1, 0) - 1, counter_id, attempt, first_step, last_step),
    ).fetchall()
    for key in keys:
        row = connection.execute(_JOURNAL + "WHERE id = ?", key).fetchone()
        if row is None:  # cannot be within one read transaction
            raise LookupError(f"journal block {key} vanished from a consistent view")
        block = _block(row)
        if tag_id is not None:
            columns = np.flatnonzero(block.tag_ids == tag_id)
            if not len(columns):
                continue
            block = Block(
                block.pos,
                counter_id,
                attempt,
                block.tag_ids[columns],
                block.steps,
                block.wall_times,
                block.values[:, columns],
                block.at,
            )
        yield block


_AXIS = "a.id, a.n, a.at_counters, a.tag_ids, a.steps, a.wall_times, a.at_values"


def _read_axes(
    connection: apsw.Connection, place: tuple[int, int, int], first_step: int, last_step: int
) -> Iterator[Block]:
    run_id, counter_id, attempt = place
    for row in connection.execute(
        f"SELECT {_AXIS} FROM axes a WHERE run_id = ? AND counter_id = ? AND attempt = ? "  # noqa: S608 - a constant
        "AND last_step >= ? AND first_step <= ? ORDER BY first_step, id",
        (*place, first_step, last_step),
    ):
        n, tag_ids = row[1], unpack_ids(row[3])
        columns: dict[int, bytes] = {}
        for tag_id in tag_ids.tolist():
            blob = connection.execute(
                "SELECT vals FROM value_columns WHERE run_id = ? AND tag_id = ? AND counter_id = ? AND attempt = ? "
                "AND axis_id = ?",
                (run_id, tag_id, counter_id, attempt, row[0]),
            ).get
            columns[tag_id] = bytes(blob)
        values = np.stack([decompress_floats(columns[tag], n) for tag in tag_ids.tolist()], axis=1)
        yield _merged_block(row, counter_id, attempt, tag_ids, values)


def _read_columns(
    connection: apsw.Connection, place: tuple[int, int, int], tag_id: int, first_step: int, last_step: int
) -> Iterator[Block]:
    run_id, counter_id, attempt = place
    tag_ids = np.array([tag_id], np.int32)
    for row in connection.execute(
        f"SELECT {_AXIS}, c.vals FROM value_columns c JOIN axes a ON a.run_id = c.run_id "  # noqa: S608 - a constant
        "AND a.counter_id = c.counter_id AND a.attempt = c.attempt AND a.id = c.axis_id "
        "WHERE c.run_id = ? AND c.tag_id = ? AND c.counter_id = ? AND c.attempt = ? "
        "AND a.last_step >= ? AND a.first_step <= ? ORDER BY a.first_step, a.id",
        (run_id, tag_id, counter_id, attempt, first_step, last_step),
    ):
        values = decompress_floats(row[7], row[1]).reshape(-1, 1)
        yield _merged_block(row, counter_id, attempt, tag_ids, values)


def _merged_block(
    row: tuple[int, int, bytes, bytes, bytes, bytes, bytes],
    counter_id: int,
    attempt: int,
    tag_ids: Int32,
    values: Float64,
) -> Block:
    axis_id, n, at_counters, _, steps, wall_times, at_values = row[:7]
    at_ids = unpack_ids(at_counters).tolist()
    at = decompress_ints(at_values, n * len(at_ids)).reshape(len(at_ids), n)
    return Block(
        axis_id,
        counter_id,
        attempt,
        tag_ids,
        decompress_ints(steps, n),
        decompress_floats(wall_times, n),
        values,
        dict(zip(at_ids, at, strict=True)),
    )


def _largest_below(steps: Int64, step: int) -> int:
    """The largest of ascending steps below `step`; the first one is known to be below it."""
    return int(steps[np.searchsorted(steps, step, side="left") - 1])
