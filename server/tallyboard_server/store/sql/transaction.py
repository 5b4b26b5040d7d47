"""One write transaction: an overlay of states over the committed ones, and the rows that will make it durable."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tallyboard.wire import Blob
from tallyboard_server.checksum import add
from tallyboard_server.model import Block, KeptAlert, KeptRefusal, RunState, frozen
from tallyboard_server.store.protocol import NO_BLOBS, Generation, Listening, Segment, StoreError
from tallyboard_server.store.sql import blobs as blob_rows
from tallyboard_server.store.sql import blocks as block_rows
from tallyboard_server.store.sql import journal, merging
from tallyboard_server.store.sql.access import LAST_CHARACTER, AccessRows
from tallyboard_server.store.sql.cache import StateCache
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.kept import save_alerts, save_refused
from tallyboard_server.store.sql.rows import RowBuffer
from tallyboard_server.store.sql.state import load_state, save_state
from tallyboard_server.store.sql.tables import TABLES
from tallyboard_server.store.sql.watching import WatchRows

PURGE_ROWS_MAX = 500
"""Rows of a deleted run that one slice removes, so that no group waits long for it."""

_PURGED_TABLES = (
    "value_columns", "value_cells", "envelopes", "axis_cells", "axes", "groups",
    "refused", "alerts", "incidents", "attempts", "counters", "tags", "producers", "heartbeats",
)  # fmt: skip
"""Besides journal and blobs. Generations and segments stay until their files are gone."""


_LATER: Final = "CASE WHEN {0}.{1} > excluded.{1} THEN {0}.{1} ELSE excluded.{1} END"


class SqlTransaction(WatchRows, AccessRows):
    """What the Transactions of both engines have in common; states are written once each, at the end, however often
    they changed."""

    _writes_alone = False
    """Whether nobody else ever writes to the store, so that a state put into the cache is the newest."""

    def __init__(self, connection: Connection, cache: StateCache) -> None:
        self._connection = connection
        self._cache = cache
        self._ids: dict[str, int | None] = {}
        self._before: dict[int, tuple[int, RunState]] = {}
        self._after: dict[int, RunState] = {}
        self._new_versions: dict[int, int] = {}
        self._deleted: set[int] = set()
        self._rows = RowBuffer()

    def load(self, name: str) -> RunState | None:
        """See Transaction.load."""
        run_id = self._id(name)
        if run_id is None:
            return None
        if (state := self._after.get(run_id)) is not None:
            return state
        if (known := self._before.get(run_id)) is not None:
            return known[1]
        known = self._committed(run_id)
        return known[1] if known is not None else None

    def name_of_uid(self, uid: str) -> str | None:
        """See Transaction.name_of_uid."""
        for state in self._after.values():
            if state.meta.uid == uid:
                return state.name
        with self._connection.mapped_errors():
            name = self._connection.execute("SELECT name FROM runs WHERE uid = ?", (uid,)).get
        return name if isinstance(name, str) else None

    def taken(self, name: str) -> bool:
        """See Transaction.taken."""
        return self._id(name) is not None

    def is_deleted(self, name: str) -> bool:
        """See Transaction.is_deleted."""
        with self._connection.mapped_errors():
            found = self._connection.execute("SELECT 1 FROM tombstones WHERE name = ?", (name,)).get
        return found is not None and not self.taken(name)

    def save(
        self,
        state: RunState,
        blocks: Sequence[Block] = (),
        refused: Sequence[KeptRefusal] = (),
        blobs: Mapping[float, Blob] = NO_BLOBS,
        alerts: Sequence[KeptAlert] = (),
    ) -> None:
        """See Transaction.save."""
        journal.append(self._rows, state.id, blocks)
        if blobs:
            with self._connection.mapped_errors():
                blob_rows.save_blobs(self._connection, state.id, blobs)
        if refused:
            with self._connection.mapped_errors():
                save_refused(self._connection, state.id, refused)
        if alerts:
            with self._connection.mapped_errors():
                save_alerts(self._connection, state.id, alerts)
        self._ids[state.name] = state.id
        self._after[state.id] = state

    def blob_hashes(self, run_id: int, keys: Sequence[float]) -> dict[float, bytes]:
        """See Transaction.blob_hashes."""
        with self._connection.mapped_errors():
            return blob_rows.read_hashes(self._connection, run_id, keys)

    def last_step_before(self, run_id: int, counter_id: int, attempt: int, step: int) -> int | None:
        """See Transaction.last_step_before."""
        with self._connection.mapped_errors():
            self._rows.write(self._connection)
            return block_rows.last_step_before(self._connection, (run_id, counter_id, attempt), step)

    def delete_run(self, state: RunState) -> None:
        """See Transaction.delete_run: the name is free at once, the rows go slice by slice in `purge`."""
        self._after.pop(state.id, None)
        self._before.pop(state.id, None)
        self._deleted.add(state.id)
        self._ids[state.name] = None
        with self._connection.mapped_errors():
            self._rows.write(self._connection)
            self._connection.execute("DELETE FROM runs WHERE id = ?", (state.id,))
            self._connection.execute("DELETE FROM heads WHERE run_id = ?", (state.id,))
            self._connection.put(TABLES["tombstones"], [(state.name, time.time())])
            self._connection.put(TABLES["deleted_runs"], [(state.id, state.name, 0)])

    def save_generation(self, generation: Generation) -> None:
        """See Transaction.save_generation."""
        with self._connection.mapped_errors():
            self._connection.put(
                TABLES["generations"],
                [
                    (
                        generation.run_id,
                        generation.number,
                        generation.file_name,
                        generation.seconds,
                        generation.encoder,
                        generation.epoch,
                        generation.first_pos,
                        generation.exported_pos,
                        generation.length,
                        generation.state,
                        generation.changed_at,
                    )
                ],
            )

    def drop_generation(self, run_id: int, number: int) -> None:
        """See Transaction.drop_generation."""
        with self._connection.mapped_errors():
            self._connection.execute("DELETE FROM generations WHERE run_id = ? AND number = ?", (run_id, number))
            self._connection.execute("DELETE FROM segments WHERE run_id = ? AND generation = ?", (run_id, number))

    def save_segment(self, segment: Segment) -> None:
        """See Transaction.save_segment."""
        with self._connection.mapped_errors():
            self._connection.put(
                TABLES["segments"],
                [
                    (
                        segment.run_id,
                        segment.generation,
                        segment.number,
                        segment.first_pos,
                        segment.last_pos,
                        segment.nbytes,
                        int(segment.published),
                        segment.changed_at,
                    )
                ],
            )

    def drop_segments(self, run_id: int, generation: int) -> None:
        """See Transaction.drop_segments."""
        with self._connection.mapped_errors():
            self._connection.execute("DELETE FROM segments WHERE run_id = ? AND generation = ?", (run_id, generation))

    def save_heartbeats(self, heard: Mapping[str, float], until: float) -> None:
        """See Transaction.save_heartbeats."""
        with self._connection.mapped_errors():
            self._connection.executemany(
                "INSERT INTO heartbeats (run_id, heard_at) "  # noqa: S608 - constants
                "SELECT id, CAST(? AS DOUBLE PRECISION) FROM runs WHERE name = ? "
                f"ON CONFLICT (run_id) DO UPDATE SET heard_at = {_LATER.format('heartbeats', 'heard_at')}",
                ((at, name) for name, at in sorted(heard.items())),
            )
            self._connection.execute(
                "INSERT INTO listening (only_row, until) VALUES (1, ?) "  # noqa: S608 - constants
                f"ON CONFLICT (only_row) DO UPDATE SET until = {_LATER.format('listening', 'until')}",
                (until,),
            )

    def listen(self, since: float, until: float, gap_s: float) -> Listening:
        """See Transaction.listen."""
        is_anew = "CAST(:since AS DOUBLE PRECISION) > listening.until + CAST(:gap AS DOUBLE PRECISION)"
        with self._connection.mapped_errors():
            found = self._connection.execute(
                "INSERT INTO listening (only_row, until, since, before) "  # noqa: S608 - constants
                "VALUES (1, CAST(:until AS DOUBLE PRECISION), CAST(:since AS DOUBLE PRECISION), 0.0) "
                f"ON CONFLICT (only_row) DO UPDATE SET until = {_LATER.format('listening', 'until')}, "
                f"since = CASE WHEN {is_anew} THEN excluded.since ELSE listening.since END, "
                f"before = CASE WHEN {is_anew} THEN listening.until ELSE listening.before END "
                "RETURNING before, since, until",
                {"since": since, "until": until, "gap": gap_s},
            ).fetchone()
        return Listening(*map(float, found))

    def merge(self, merge: object) -> None:
        """See Transaction.merge."""
        if not isinstance(merge, merging.PackedMerge):
            raise TypeError(f"a merge of this store is a PackedMerge, not {type(merge).__name__}")
        if self._name_of(merge.place[0]) is not None:
            with self._connection.mapped_errors():
                merging.apply_merge(self._connection, merge)

    def prune(self, prune: object) -> int:
        """See Transaction.prune."""
        if not isinstance(prune, merging.PackedPrune):
            raise TypeError(f"a prune of this store is a PackedPrune, not {type(prune).__name__}")
        run_id, counter_id, number = prune.merge.place
        name = self._name_of(run_id)
        state = self.load(name) if name is not None else None
        counter = state.counter_by_id(counter_id) if state is not None else None
        if state is None or counter is None or not prune.scalars:
            return 0
        with self._connection.mapped_errors():
            if not merging.apply_merge(self._connection, prune.merge):
                return 0
        limit = counter.limit(number)
        was_visible = limit is None or prune.first_step < limit
        attempts = tuple(
            replace(
                attempt,
                pruned_scalars=attempt.pruned_scalars + prune.scalars,
                pruned_checksum=add(attempt.pruned_checksum, prune.checksum),
            )
            if attempt.number == number
            else attempt
            for attempt in counter.attempts
        )
        counters = frozen({**state.counters, counter.name: replace(counter, attempts=attempts)})
        self.save(replace(state, counters=counters, epoch=state.epoch + was_visible))
        return prune.scalars

    def drop_blobs(self, run_id: int, keys: Sequence[float], *, pos: int) -> bool:
        """See Transaction.drop_blobs."""
        name = self._name_of(run_id)
        state = self.load(name) if name is not None else None
        if state is None or state.pos != pos:
            return False
        with self._connection.mapped_errors():
            blob_rows.drop_blobs(self._connection, run_id, keys)
        return True

    def runs_at_most(self, prefix: str, limit: int) -> int:
        """See Transaction.runs_at_most: new runs of this transaction have no rows yet."""
        with self._connection.mapped_errors():
            found = self._connection.execute(
                "SELECT count(*) FROM (SELECT 1 FROM runs WHERE name >= ? AND name < ? LIMIT ?) AS found",
                (prefix, prefix + LAST_CHARACTER, limit),
            ).get
        new = sum(
            1
            for run_id, state in self._after.items()
            if state.name.startswith(prefix) and run_id not in self._before and self._committed(run_id) is None
        )
        return min(limit, (found if isinstance(found, int) else 0) + new)

    def purge(self) -> bool:
        """Remove one slice of a deleted run's rows; False when nothing is left to remove.

        In the order of keys: of a large run PostgreSQL would else read the table from its beginning, in the belief that
        the first rows of it will do.
        """
        with self._connection.mapped_errors():
            run_id = self._run_to_purge()
            if run_id is None:
                # With `purged`: there may be some whose rows somebody else is removing.
                self._connection.execute(
                    "DELETE FROM deleted_runs WHERE purged = 1 "
                    "AND NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.run_id = deleted_runs.run_id)"
                )
                return False
            first = journal.journal_key(run_id, 0)
            last = journal.journal_key(run_id + 1, 0) - 1
            self._connection.execute(
                "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?)",
                (first, last, PURGE_ROWS_MAX),
            )
            if self._connection.changes():
                return True
            if blob_rows.purge_blobs(self._connection, run_id):
                return True
            for table in _PURGED_TABLES:
                key = ", ".join(TABLES[table].key)
                self._connection.execute(
                    f"DELETE FROM {table} WHERE ({key}) IN "  # noqa: S608 - names from a constant
                    f"(SELECT {key} FROM {table} WHERE run_id = ? ORDER BY {key} LIMIT ?)",
                    (run_id, PURGE_ROWS_MAX),
                )
                if self._connection.changes():
                    return True
            self._connection.execute("UPDATE deleted_runs SET purged = 1 WHERE run_id = ?", (run_id,))
            return True

    def flush(self) -> None:
        """Write all that waits; the last thing before COMMIT."""
        with self._connection.mapped_errors():
            for run_id, state in self._after.items():
                before = self._before.get(run_id) or self._committed(run_id)
                version, known = before if before else (0, None)
                self._new_versions[run_id] = self._next_version(version)
                save_state(self._connection, self._rows, known, state, self._new_versions[run_id])
            self._rows.write(self._connection)

    def publish(self) -> None:
        """After COMMIT: let everyone see the new states."""
        for run_id, state in self._after.items():
            self._cache.put(run_id, self._new_versions[run_id], state, newest=self._writes_alone)
        for run_id, (version, state) in self._before.items():
            if run_id not in self._after:
                self._cache.put(run_id, version, state, newest=self._writes_alone)
        self.forget(self._deleted)

    def forget(self, run_ids: Iterable[int] | None = None) -> None:
        """Have states read again: of the runs given, or of all that this transaction touched (it failed)."""
        for run_id in (*self._before, *self._after, *self._deleted) if run_ids is None else run_ids:
            self._cache.forget(run_id)

    def _committed(self, run_id: int) -> tuple[int, RunState] | None:
        """A run's version and state as last committed; None for a new run."""
        known = self._read_committed(run_id)
        if known is not None:
            self._before[run_id] = known
        return known

    def _read_committed(self, run_id: int) -> tuple[int, RunState] | None:
        with self._connection.mapped_errors():
            version = self._version(run_id)
            if version is None:
                return None
            state = self._cache.get(run_id, version) or load_state(self._connection, run_id)
        if state is None:
            raise StoreError(f"run {run_id} has a head but no row; the store is damaged")
        return version, state

    def _next_version(self, version: int) -> int:
        """What tells a run's next state from all others that it ever had."""
        return version + 1

    def _version(self, run_id: int) -> int | None:
        """The version of a run's committed state."""
        version = self._connection.execute("SELECT version FROM heads WHERE run_id = ?", (run_id,)).get
        return version if isinstance(version, int) else None

    def _name_of(self, run_id: int) -> str | None:
        """The name of a run that is not deleted."""
        with self._connection.mapped_errors():
            name = self._connection.execute("SELECT name FROM runs WHERE id = ?", (run_id,)).get
        return name if isinstance(name, str) else None

    def _id(self, name: str) -> int | None:
        if name not in self._ids:
            with self._connection.mapped_errors():
                self._ids[name] = self._read_id(name)
        return self._ids[name]

    def _read_id(self, name: str) -> int | None:
        found = self._connection.execute("SELECT id FROM runs WHERE name = ?", (name,)).get
        return found if isinstance(found, int) else None

    def _run_to_purge(self) -> int | None:
        """A deleted run that has rows left."""
        found = self._connection.execute("SELECT min(run_id) FROM deleted_runs WHERE purged = 0").get
        return found if isinstance(found, int) else None
