"""Merges, compactions and prunes: prepared on the caller's thread, then put in the place of what they replace."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tallyboard_server.checksum import add, checksum
from tallyboard_server.model import Block
from tallyboard_server.store import tiers
from tallyboard_server.store.envelope import Bool, of_columns
from tallyboard_server.store.merge import ROWS_PER_CHUNK, merge_blocks
from tallyboard_server.store.protocol import BYTES_PER_GROUP, ROWS_PER_GROUP, Group, Keep
from tallyboard_server.store.sql import envelopes
from tallyboard_server.store.sql.blocks import PLACE
from tallyboard_server.store.sql.codec import compress_floats, compress_ints, pack_ids, unpack_ids
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.journal import Place, journal_key
from tallyboard_server.store.sql.rows import RowBuffer
from tallyboard_server.store.sql.tables import Row

CHUNK_ROWS: Final = ROWS_PER_CHUNK
_AXES_FROM: Final = 1 << 56
_AXIS_BITS: Final = 24
"""An axis's id: above those of older versions, which were positions, its group's position and its number in there."""

_OF_TAG: Final = ("value_columns", "value_cells", "envelopes")
"""Tables with a row for each tag of an axis."""


@dataclass(slots=True, frozen=True)
class PackedMerge:
    """A group ready to be written: positions of the journal or groups that it replaces, and its rows by table."""

    place: Place
    positions: tuple[int, ...]
    groups: tuple[Group, ...]
    rows: dict[str, list[Row]]


@dataclass(slots=True, frozen=True)
class PackedPrune:
    """A group with rows left out: how many scalars, their checksum, and the least of their steps."""

    merge: PackedMerge
    scalars: int
    checksum: int
    first_step: int


def pack_merge(run_id: int, sources: Sequence[Block], groups: Sequence[Group] = ()) -> PackedMerge:
    """Merge and compress blocks of one attempt, of whole batches or whole groups; takes the time, but no lock."""
    place = run_id, sources[0].counter_id, sources[0].attempt
    positions = () if groups else tuple(sorted(block.pos for block in sources))
    batch = min(group.batch for group in groups) if groups else positions[0]
    version = 1 + max((group.version for group in groups), default=0)
    return PackedMerge(place, positions, tuple(groups), _pack(place, batch, version, merge_blocks(sources, CHUNK_ROWS)))


def pack_prune(group: Group, blocks: Sequence[Block], keep: Keep) -> PackedPrune:
    """Write a group anew without some rows."""
    place = group.run_id, group.counter_id, group.attempt
    kept: list[Block] = []
    scalars = total = 0
    first_step = 2**63 - 1
    for block in blocks:
        mask = np.broadcast_to(np.asarray(keep(block), bool).reshape(len(block.steps), -1), block.values.shape)
        for stays, part in _alike(block, mask):
            kept.append(part.take(np.flatnonzero(stays)))
            gone = part.take(np.flatnonzero(~stays))
            if len(gone.steps):
                scalars += gone.values.size
                total = add(total, checksum(gone))
                first_step = min(first_step, int(gone.steps[0]))
    left = merge_blocks([block for block in kept if len(block.steps)], CHUNK_ROWS)
    rows = _pack(place, group.batch, group.version + 1, left) if left else {}
    return PackedPrune(PackedMerge(place, (), (group,), rows), scalars, total, first_step)


def apply_merge(connection: Connection, merge: PackedMerge) -> bool:
    """Put a group in the place of its sources; False, and nothing is done, if they are not what they were."""
    if not (_journal_holds(connection, merge) if merge.positions else _groups_are(connection, merge)):
        return False
    if merge.positions:
        connection.execute(f"DELETE FROM journal WHERE {_SOURCES}", _source_range(merge))  # noqa: S608 - a constant
    else:
        _delete_groups(connection, merge)
    insert_rows(connection, merge.rows)
    return True


def insert_rows(connection: Connection, rows: dict[str, list[Row]]) -> None:
    """Insert rows by table."""
    buffer = RowBuffer()
    for table, of_table in rows.items():
        buffer.extend(table, of_table)
    buffer.write(connection)


def _pack(place: Place, batch: int, version: int, blocks: Sequence[Block]) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {
        table: [] for table in ("axes", "value_columns", "envelopes", "value_cells", "axis_cells", "groups")
    }
    by_tags: dict[bytes, int] = {}
    for number, block in enumerate(blocks):
        _pack_chunk(rows, place, batch, _AXES_FROM + (batch << _AXIS_BITS | number), block)
        key = block.tag_ids.tobytes()
        by_tags[key] = by_tags.get(key, 0) + len(block.steps)
    n, nbytes = max(by_tags.values()), sum(block.nbytes for block in blocks)
    fill = max(n / ROWS_PER_GROUP, nbytes / BYTES_PER_GROUP)
    first, last = min(int(block.steps[0]) for block in blocks), max(int(block.steps[-1]) for block in blocks)
    rows["groups"].append((*place, batch, version, n, nbytes, first, last, int(fill >= tiers.GROWN)))
    return rows


def _pack_chunk(rows: dict[str, list[Row]], place: Place, batch: int, axis_id: int, block: Block) -> None:
    run_id, *rest = place
    n, first_step = len(block.steps), int(block.steps[0])
    columns = np.ascontiguousarray(block.values.T)
    at_values = np.concatenate([np.empty(0, np.int64), *block.at.values()])
    rows["axes"].append(
        (
            *place,
            axis_id,
            batch,
            n,
            first_step,
            int(block.steps[-1]),
            pack_ids(np.fromiter(block.at, np.int32, len(block.at))),
            pack_ids(block.tag_ids),
            compress_ints(block.steps),
            compress_floats(block.wall_times),
            compress_ints(at_values),
        )
    )
    whole = of_columns(block.steps, block.wall_times, columns, n)
    fine = of_columns(block.steps, block.wall_times, columns, envelopes.CELL_ROWS) if n > envelopes.CELL_ROWS else []
    if fine:
        rows["axis_cells"].append((*place, axis_id, envelopes.pack_axis_cells(fine[0])))
    for index, tag_id in enumerate(block.tag_ids.tolist()):
        key = run_id, tag_id, *rest
        at_cells = envelopes.pack_places(block.steps, whole[index], block.at)
        rows["value_columns"].append((*key, axis_id, compress_floats(columns[index])))
        rows["envelopes"].append((*key, first_step, axis_id, n, envelopes.pack_whole(whole[index])[0], at_cells))
        if fine:
            rows["value_cells"].append((*key, axis_id, envelopes.pack_value_cells(fine[index])))


def _alike(block: Block, mask: Bool) -> Iterable[tuple[Bool, Block]]:
    """Tags of a block with the same rows to stay: which those are, and the block reduced to the tags."""
    by_rows: dict[bytes, list[int]] = {}
    for column in range(mask.shape[1]):
        by_rows.setdefault(mask[:, column].tobytes(), []).append(column)
    for columns in by_rows.values():
        yield mask[:, columns[0]], replace(block, tag_ids=block.tag_ids[columns], values=block.values[:, columns])


_SOURCES: Final = "id BETWEEN ? AND ? AND counter_id = ? AND attempt = ?"


def _source_range(merge: PackedMerge) -> tuple[int, int, int, int]:
    """All of the attempt that the journal holds up to the newest source: merges always take the oldest."""
    run_id, counter_id, attempt = merge.place
    return journal_key(run_id, 0), journal_key(run_id, merge.positions[-1]), counter_id, attempt


def _journal_holds(connection: Connection, merge: PackedMerge) -> bool:
    found = connection.execute(
        f"SELECT id FROM journal WHERE {_SOURCES} ORDER BY id",  # noqa: S608 - a constant
        _source_range(merge),
    ).fetchall()
    return [key for (key,) in found] == [journal_key(merge.place[0], pos) for pos in merge.positions]


def _groups_are(connection: Connection, merge: PackedMerge) -> bool:
    found = connection.execute(
        f"SELECT batch, version FROM groups WHERE {PLACE} AND batch BETWEEN ? AND ? ORDER BY batch",  # noqa: S608
        (*merge.place, merge.groups[0].batch, merge.groups[-1].batch),
    ).fetchall()
    return found == [(group.batch, group.version) for group in merge.groups]


def _delete_groups(connection: Connection, merge: PackedMerge) -> None:
    """Delete groups with all that belongs to them; their axes' ids have those of no other group in between."""
    between = (*merge.place, merge.groups[0].batch, merge.groups[-1].batch)
    axes: list[tuple[int, bytes]] = [
        (axis_id, tag_ids)
        for axis_id, tag_ids in connection.execute(
            f"SELECT id, tag_ids FROM axes WHERE {PLACE} AND batch BETWEEN ? AND ?",  # noqa: S608 - constants
            between,
        )
    ]
    by_tag: dict[int, list[int]] = {}
    for axis_id, tag_ids in axes:
        for tag_id in unpack_ids(tag_ids).tolist():
            by_tag.setdefault(tag_id, []).append(axis_id)
    run_id, counter_id, attempt = merge.place
    steps = merge.groups[0].first_step, merge.groups[-1].last_step
    ranges = [(tag_id, *between) for tag_id, ids in by_tag.items() for between in _ranges(ids)]
    for table in _OF_TAG:  # all tags together: while this goes on, nobody can report to the run
        by_step = "AND first_step BETWEEN ? AND ? " if table == "envelopes" else ""
        connection.executemany(
            f"DELETE FROM {table} WHERE run_id = ? AND tag_id = ? AND counter_id = ? "  # noqa: S608 - constants
            f"AND attempt = ? {by_step}AND axis_id BETWEEN ? AND ?",
            (
                (run_id, tag_id, counter_id, attempt, *(steps if by_step else ()), low, high)
                for tag_id, low, high in ranges
            ),
        )
    for low, high in _ranges([axis_id for axis_id, _ in axes]):
        connection.execute(
            f"DELETE FROM axis_cells WHERE {PLACE} AND axis_id BETWEEN ? AND ?",  # noqa: S608 - a constant
            (*merge.place, low, high),
        )
    connection.execute(f"DELETE FROM axes WHERE {PLACE} AND batch BETWEEN ? AND ?", between)  # noqa: S608
    connection.execute(f"DELETE FROM groups WHERE {PLACE} AND batch BETWEEN ? AND ?", between)  # noqa: S608


def _ranges(ids: list[int]) -> list[tuple[int, int]]:
    """Ranges that hold these axis ids, and those of no other group: old ones (positions), and new ones."""
    old = [axis_id for axis_id in ids if axis_id < _AXES_FROM]
    new = [axis_id for axis_id in ids if axis_id >= _AXES_FROM]
    return [(min(part), max(part)) for part in (old, new) if part]
