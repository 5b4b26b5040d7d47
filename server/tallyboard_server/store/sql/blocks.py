"""Reading an attempt's blocks at all levels in one way: the journal, and the columns that merges wrote."""

import heapq
from collections.abc import Iterator
from typing import Final

import numpy as np

from tallyboard.wire import Float64, Int64
from tallyboard_server.model import Block, Int32
from tallyboard_server.store.protocol import Group
from tallyboard_server.store.sql import journal
from tallyboard_server.store.sql.codec import decompress_floats, decompress_ints, unpack_ids
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.journal import Place

PLACE: Final = "run_id = ? AND counter_id = ? AND attempt = ? "
_AXIS: Final = "a.id, a.batch, a.n, a.at_counters, a.tag_ids, a.steps, a.wall_times, a.at_values"
_IN_RANGE: Final = "a.last_step >= ? AND a.first_step <= ? ORDER BY a.batch, a.first_step, a.id"
_GROUP: Final = "counter_id, attempt, batch, version, n, bytes, first_step, last_step"


def read_attempt(
    connection: Connection, place: Place, *, tag_id: int | None, first_step: int, last_step: int
) -> Iterator[Block]:
    """Blocks of an attempt that may hold steps in the range, by ascending first step, merged ones first."""
    batches = batches_between(connection, place, first_step, last_step)
    merged = (
        _read_axes(connection, place, batches, first_step, last_step)
        if tag_id is None
        else _read_columns(connection, place, batches, tag_id, first_step, last_step)
    )
    fresh = journal.read_level_0(connection, place, tag_id, first_step, last_step)
    return heapq.merge(merged, fresh, key=lambda block: (int(block.steps[0]), block.pos))


def read_attempt_axes(
    connection: Connection, place: Place, *, first_step: int, last_step: int
) -> Iterator[tuple[Int64, Float64]]:
    """Steps and wall times of the blocks of `read_attempt`, in the same order."""
    batches = batches_between(connection, place, first_step, last_step)
    merged = (
        (decompress_ints(steps, n), decompress_floats(wall_times, n))
        for n, steps, wall_times in connection.stream(
            f"SELECT a.n, a.steps, a.wall_times FROM axes AS a WHERE {PLACE} AND a.batch BETWEEN ? AND ? "  # noqa: S608
            f"AND {_IN_RANGE}",
            (*place, *batches, first_step, last_step),
        )
    )
    fresh = (
        (block.steps, block.wall_times)
        for block in journal.read_level_0(connection, place, None, first_step, last_step)
    )
    return heapq.merge(merged, fresh, key=lambda axis: int(axis[0][0]))


def batches_between(connection: Connection, place: Place, first_step: int, last_step: int) -> tuple[int, int]:
    """The first and last group of an attempt that may hold steps in the range.

    Groups follow each other in steps: of those that begin below the range, only the newest can reach into it.
    """
    first = _newest_group(connection, place, first_step)
    last = _newest_group(connection, place, last_step + 1) if last_step < 2**63 - 1 else None
    return first or 0, 2**62 if last_step >= 2**63 - 1 else last or 0


def last_step_before(connection: Connection, place: Place, step: int) -> int | None:
    """The largest step below `step` in an attempt.

    Steps of an attempt never decrease from batch to batch, so the newest batch (or group) that holds a lower step
    holds the largest of them; within that every block is looked at.
    """
    if (found := journal.last_step_before(connection, place, step)) is not None:
        return found
    if (batch := _newest_group(connection, place, step)) is None:
        return None
    rows = connection.execute(
        f"SELECT last_step, n, CASE WHEN last_step >= ? THEN steps END FROM axes WHERE {PLACE} "  # noqa: S608 - constant
        "AND batch = ? AND first_step < ?",
        (step, *place, batch, step),
    )
    return max(
        (last if steps is None else _largest_below(decompress_ints(steps, n), step) for last, n, steps in rows),
        default=None,
    )


def growing_attempts(connection: Connection, run_id: int, min_groups: int) -> list[tuple[int, int]]:
    """(counter id, attempt) of attempts with so many groups that may still grow, or one without envelopes."""
    rows = connection.execute(
        "SELECT counter_id, attempt FROM groups INDEXED BY groups_growing WHERE run_id = ? AND grown = 0 "
        "GROUP BY counter_id, attempt HAVING count(*) >= ? OR min(version) = 0",
        (run_id, min_groups),
    )
    return [(counter_id, attempt) for counter_id, attempt in rows]


def growing_groups(connection: Connection, place: Place, limit: int) -> list[list[Group]]:
    """The newest groups of an attempt that may still grow, in stretches of groups that follow each other."""
    rows = connection.execute(
        f"SELECT {_GROUP}, (SELECT min(h.batch) FROM groups AS h WHERE h.run_id = g.run_id "  # noqa: S608 - constants
        "AND h.counter_id = g.counter_id AND h.attempt = g.attempt AND h.batch > g.batch) "
        f"FROM groups AS g INDEXED BY groups_growing WHERE {PLACE} AND grown = 0 ORDER BY batch DESC LIMIT ?",
        (*place, limit),
    ).fetchall()
    stretches: list[list[Group]] = []
    follows = -1
    for *row, next_batch in reversed(rows):
        if row[2] != follows:
            stretches.append([])
        stretches[-1].append(Group(place[0], *row))
        follows = next_batch
    return stretches


def read_groups_after(connection: Connection, place: Place, after_batch: int, limit: int) -> list[Group]:
    """Groups of an attempt in order."""
    rows = connection.execute(
        f"SELECT {_GROUP} FROM groups WHERE {PLACE} AND batch > ? ORDER BY batch LIMIT ?",  # noqa: S608 - constants
        (*place, after_batch, limit),
    )
    return [Group(place[0], *row) for row in rows]


def read_group(connection: Connection, group: Group) -> list[Block]:
    """The blocks of a group."""
    place = group.run_id, group.counter_id, group.attempt
    return list(_read_axes(connection, place, (group.batch, group.batch), 0, 2**63 - 1))


def groups_without_envelopes(connection: Connection, place: Place, first_step: int, last_step: int) -> list[Group]:
    """Groups that an older version wrote, as far as they may hold steps in the range."""
    rows = connection.execute(
        f"SELECT {_GROUP} FROM groups INDEXED BY groups_without_envelopes "  # noqa: S608 - constants
        f"WHERE {PLACE} AND version = 0 AND last_step >= ? AND first_step <= ? ORDER BY batch",
        (*place, first_step, last_step),
    )
    return [Group(place[0], *row) for row in rows]


def read_old_columns(connection: Connection, group: Group, tag_id: int, first_step: int, last_step: int) -> list[Block]:
    """The blocks of a tag in one group."""
    place = group.run_id, group.counter_id, group.attempt
    return list(_read_columns(connection, place, (group.batch, group.batch), tag_id, first_step, last_step))


def _newest_group(connection: Connection, place: Place, below: int) -> int | None:
    """The newest group of an attempt that begins below a step."""
    batch = connection.execute(
        f"SELECT batch FROM groups WHERE {PLACE} AND first_step < ? "  # noqa: S608 - a constant
        "ORDER BY first_step DESC, batch DESC LIMIT 1",
        (*place, below),
    ).get
    return batch if isinstance(batch, int) else None


def _read_axes(
    connection: Connection, place: Place, batches: tuple[int, int], first_step: int, last_step: int
) -> Iterator[Block]:
    for row in connection.stream(
        f"SELECT {_AXIS} FROM axes AS a WHERE {PLACE} AND a.batch BETWEEN ? AND ? AND {_IN_RANGE}",  # noqa: S608 - constants
        (*place, *batches, first_step, last_step),
    ):
        n, tag_ids = row[2], unpack_ids(row[4])
        values = np.empty((n, len(tag_ids)))
        found = connection.several(
            "SELECT vals FROM value_columns WHERE run_id = ? AND tag_id = ? AND counter_id = ? AND attempt = ? "
            "AND axis_id = ?",
            ((place[0], tag_id, *place[1:], row[0]) for tag_id in tag_ids.tolist()),
        )
        for column, [(blob,)] in enumerate(found):
            values[:, column] = decompress_floats(blob, n)
        yield _merged_block(row, place, tag_ids, values)


def _read_columns(
    connection: Connection,
    place: Place,
    batches: tuple[int, int],
    tag_id: int,
    first_step: int,
    last_step: int,
) -> Iterator[Block]:
    tag_ids = np.array([tag_id], np.int32)
    for row in connection.stream(
        f"SELECT {_AXIS}, c.vals FROM axes AS a CROSS JOIN value_columns AS c ON c.run_id = a.run_id "  # noqa: S608
        "AND c.tag_id = ? AND c.counter_id = a.counter_id AND c.attempt = a.attempt AND c.axis_id = a.id "
        "WHERE a.run_id = ? AND a.counter_id = ? AND a.attempt = ? "
        f"AND a.batch BETWEEN ? AND ? AND {_IN_RANGE}",
        (tag_id, *place, *batches, first_step, last_step),
    ):
        values = decompress_floats(row[8], row[2]).reshape(-1, 1)
        yield _merged_block(row[:8], place, tag_ids, values)


def _merged_block(
    row: tuple[int, int, int, bytes, bytes, bytes, bytes, bytes], place: Place, tag_ids: Int32, values: Float64
) -> Block:
    _, batch, n, at_counters, _, steps, wall_times, at_values = row
    at_ids = unpack_ids(at_counters).tolist()
    at = decompress_ints(at_values, n * len(at_ids)).reshape(len(at_ids), n)
    return Block(
        batch,
        place[1],
        place[2],
        tag_ids,
        decompress_ints(steps, n),
        decompress_floats(wall_times, n),
        values,
        dict(zip(at_ids, at, strict=True)),
    )


def _largest_below(steps: Int64, step: int) -> int:
    """The largest of ascending steps below `step`; the first one is known to be below it."""
    return int(steps[np.searchsorted(steps, step, side="left") - 1])
