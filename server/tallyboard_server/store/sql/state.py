"""A run's state as rows: read whole, written as the difference between two states."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from tallyboard_server.model import (
    Attempt,
    Counter,
    Producer,
    RunMeta,
    RunState,
    Tag,
    frozen,
)
from tallyboard_server.store.sql.codec import pack_ids, pack_json, pack_word, unpack_ids, unpack_json, unpack_word
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.rows import RowBuffer

_T = TypeVar("_T")

_RUN = """
SELECT r.id, r.name, h.pos, h.epoch, h.updated_at, r.uid, r.created_at, r.status, r.run_group, r.display_name,
       r.notes, r.tags, r.config, r.summary, r.provenance, r.rewinds, r.archived
FROM runs r JOIN heads h ON h.run_id = r.id WHERE r.id = ?
"""


def load_state(connection: Connection, run_id: int) -> RunState | None:
    """The run's state as the connection sees it."""
    row = connection.execute(_RUN, (run_id,)).fetchone()
    if row is None:
        return None
    (id_, name, pos, epoch, updated_at, uid, created_at, status, group, display_name) = row[:10]
    notes, tags, config, summary, provenance, rewinds, archived = row[10:]
    return RunState(
        id=id_,
        name=name,
        pos=pos,
        epoch=epoch,
        meta=RunMeta(
            created_at=created_at,
            updated_at=updated_at,
            status=status,
            uid=uid,
            group=group,
            display_name=display_name,
            notes=notes,
            tags=tuple(unpack_json(tags)),
            config=frozen(unpack_json(config)),
            summary=frozen(unpack_json(summary)),
            provenance=frozen(unpack_json(provenance)),
            archived=bool(archived),
        ),
        counters=frozen({counter.name: counter for counter in _load_counters(connection, run_id)}),
        tags=frozen({tag.name: tag for tag in _load_tags(connection, run_id)}),
        producers=frozen({producer.name: producer for producer in _load_producers(connection, run_id)}),
        rewinds=tuple(unpack_json(rewinds)),
    )


def save_state(connection: Connection, rows: RowBuffer, before: RunState | None, after: RunState, version: int) -> None:
    """Write what differs: an object that is the same object in both states is not looked into.

    What changes with every batch goes to `rows`, which the caller writes; the rest is written at once.
    """
    run_id = after.id
    if before is None or _wide(before) != _wide(after):
        _save_run(connection, after, insert=before is None)
    rows.add("heads", (run_id, after.pos, after.epoch, version, after.meta.updated_at))
    for counter in _changed(before, after, lambda state: state.counters):
        old = before.counters.get(counter.name) if before else None
        _save_counter(rows, run_id, old, counter)
    rows.extend(
        "tags",
        (
            (run_id, tag.id, tag.name, tag.counter_id, tag.first_step, tag.attempts_then, tag.kind, tag.metadata)
            for tag in _changed(before, after, lambda state: state.tags)
        ),
    )
    _save_producers(connection, rows, before, after)


def _wide(state: RunState) -> tuple[object, ...]:
    """What the wide row of `runs` holds; mostly the very same objects from batch to batch."""
    meta = state.meta
    return (
        state.name,
        state.rewinds,
        meta.status,
        meta.uid,
        meta.group,
        meta.display_name,
        meta.notes,
        meta.tags,
        meta.archived,
        meta.config,
        meta.summary,
        meta.provenance,
    )


def _changed(before: RunState | None, after: RunState, part: Callable[[RunState], Mapping[str, _T]]) -> Iterator[_T]:
    new = part(after)
    old = part(before) if before else {}
    if new is old:
        return
    for name, item in new.items():
        if old.get(name) is not item:
            yield item


def _save_run(connection: Connection, state: RunState, *, insert: bool) -> None:
    meta = state.meta
    values = (
        state.name,
        meta.uid,
        meta.created_at,
        meta.status,
        meta.group,
        meta.display_name,
        meta.notes,
        pack_json(meta.tags),
        pack_json(meta.config),
        pack_json(meta.summary),
        pack_json(meta.provenance),
        pack_json(state.rewinds),
        int(meta.archived),
        state.id,
    )
    if insert:
        connection.execute(
            "INSERT INTO runs (name, uid, created_at, status, run_group, display_name, notes, tags, config, "
            "summary, provenance, rewinds, archived, id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        connection.execute("DELETE FROM tombstones WHERE name = ?", (state.name,))
    else:
        connection.execute(
            "UPDATE runs SET name = ?, uid = ?, created_at = ?, status = ?, run_group = ?, display_name = ?, "
            "notes = ?, tags = ?, config = ?, summary = ?, provenance = ?, rewinds = ?, archived = ? WHERE id = ?",
            values,
        )


def _save_counter(rows: RowBuffer, run_id: int, old: Counter | None, new: Counter) -> None:
    if old is None or (old.name, old.total) != (new.name, new.total):
        rows.add("counters", (run_id, new.id, new.name, new.total))
    before = old.attempts if old else ()
    for index, attempt in enumerate(new.attempts):
        if index < len(before) and before[index] is attempt:
            continue
        rows.add(
            "attempts",
            (
                run_id,
                new.id,
                attempt.number,
                attempt.writer,
                attempt.start,
                attempt.last_step,
                attempt.last_visible,
                attempt.reports,
                attempt.scalars,
                pack_ids(attempt.tail_tags),
                np.ascontiguousarray(attempt.tail_values, "<f8").tobytes(),
                pack_word(attempt.checksum),
                attempt.pruned_scalars,
                pack_word(attempt.pruned_checksum),
                attempt.unmoved,
            ),
        )


def _save_producers(connection: Connection, rows: RowBuffer, before: RunState | None, after: RunState) -> None:
    for producer in _changed(before, after, lambda state: state.producers):
        rows.add(
            "producers",
            (
                after.id,
                producer.name,
                producer.seq,
                producer.last_seen,
                np.array(producer.checksums, "<i8").tobytes(),
                producer.receipt,
                pack_json(producer.origin),
            ),
        )
    if before is not None and before.producers is not after.producers:
        for name in before.producers.keys() - after.producers.keys():
            connection.execute("DELETE FROM producers WHERE run_id = ? AND name = ?", (after.id, name))


def _load_counters(connection: Connection, run_id: int) -> Iterator[Counter]:
    attempts: dict[int, list[Attempt]] = {}
    for row in connection.execute(
        "SELECT counter_id, number, writer, start, last_step, last_visible, tail_tags, tail_values, reports, "
        "scalars, checksum, pruned_scalars, pruned_checksum, unmoved FROM attempts WHERE run_id = ? "
        "ORDER BY counter_id, number",
        (run_id,),
    ):
        (
            counter_id,
            number,
            writer,
            start,
            last_step,
            last_visible,
            tail_tags,
            tail_values,
            reports,
            scalars,
            checksum,
            pruned_scalars,
            pruned_checksum,
            unmoved,
        ) = row
        attempts.setdefault(counter_id, []).append(
            Attempt(
                number,
                writer,
                start,
                last_step,
                last_visible,
                unpack_ids(tail_tags),
                np.frombuffer(tail_values, "<f8"),
                reports,
                scalars,
                unmoved,
                checksum=unpack_word(checksum),
                pruned_scalars=pruned_scalars,
                pruned_checksum=pruned_checksum % 2**64,
            )
        )
    for id_, name, total in connection.execute(
        "SELECT id, name, total FROM counters WHERE run_id = ? ORDER BY id", (run_id,)
    ):
        yield Counter(id_, name, total, tuple(attempts.get(id_, ())))


def _load_tags(connection: Connection, run_id: int) -> Iterator[Tag]:
    for row in connection.execute(
        "SELECT id, name, counter_id, first_step, attempts_then, kind, metadata FROM tags WHERE run_id = ? ORDER BY id",
        (run_id,),
    ):
        yield Tag(*row)


def _load_producers(connection: Connection, run_id: int) -> Iterator[Producer]:
    for name, seq, checksums, receipt, origin, last_seen in connection.execute(
        "SELECT name, seq, checksums, receipt, origin, last_seen FROM producers WHERE run_id = ?", (run_id,)
    ):
        known: Any = np.frombuffer(checksums, "<i8").tolist()
        yield Producer(name, seq, tuple(known), receipt, frozen(unpack_json(origin)), last_seen)
