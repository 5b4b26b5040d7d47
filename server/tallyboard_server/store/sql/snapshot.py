"""A consistent view of the database for reading."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tallyboard.wire import Blob, Float64, Int64
from tallyboard_server.model import AlertCount, Block, KeptAlert, KeptRefusal, RunState
from tallyboard_server.principal import AuditEntry, Session, Token
from tallyboard_server.store.envelope import Cells
from tallyboard_server.store.protocol import BYTES_PER_GROUP, Generation, Group, RunHead, RunVersion, Segment
from tallyboard_server.store.sql import access, journal
from tallyboard_server.store.sql import blobs as blob_rows
from tallyboard_server.store.sql import blocks as block_rows
from tallyboard_server.store.sql.cache import StateCache
from tallyboard_server.store.sql.cells import Range, count_points, read_cells
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.kept import count_alerts, count_refused, load_alerts, load_refused
from tallyboard_server.store.sql.state import load_state
from tallyboard_server.store.sql.tables import TABLES
from tallyboard_server.store.sql.watching import WatchReading

_T = TypeVar("_T")
_GENERATION = ", ".join(TABLES["generations"].columns)
_HEAD = "SELECT r.id, r.name, h.pos, h.epoch, h.updated_at, r.status FROM heads h CROSS JOIN runs r ON r.id = h.run_id "
_HEADS = _HEAD + "WHERE h.run_id > :after AND r.id > :after ORDER BY h.run_id LIMIT :limit"
"""PostgreSQL does not conclude the second from the first, and would read all runs before the page."""


class SqlSnapshot(WatchReading):
    """The Snapshot of both engines, on one read transaction of one connection."""

    def __init__(self, connection: Connection, cache: StateCache) -> None:
        self._connection = connection
        self._cache = cache
        self._open: list[Iterator[Any]] = []

    def load(self, name: str) -> RunState | None:
        """See Snapshot.load."""
        with self._connection.mapped_errors():
            run_id = self._connection.execute("SELECT id FROM runs WHERE name = ?", (name,)).get
        return self.load_by_id(run_id) if isinstance(run_id, int) else None

    def load_by_id(self, run_id: int) -> RunState | None:
        """See Snapshot.load_by_id."""
        with self._connection.mapped_errors():
            version = self._connection.execute("SELECT version FROM heads WHERE run_id = ?", (run_id,)).get
            if not isinstance(version, int):
                return None
            state = self._cache.get(run_id, version)
            if state is None and (state := load_state(self._connection, run_id)) is not None:
                self._cache.put(run_id, version, state)
            return state

    def is_deleted(self, name: str) -> bool:
        """See Snapshot.is_deleted."""
        with self._connection.mapped_errors():
            return self._connection.execute("SELECT 1 FROM tombstones WHERE name = ?", (name,)).get is not None

    def run_names(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
        """See Snapshot.run_names."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                "SELECT name FROM runs WHERE name > ? AND name >= ? AND name < ? ORDER BY name LIMIT ?",
                (after, prefix, f"{prefix}{access.LAST_CHARACTER}", limit),
            )
            return [name for (name,) in rows]

    def run_versions(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[RunVersion]:
        """See Snapshot.run_versions."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                "SELECT r.id, r.name, h.version FROM runs r JOIN heads h ON h.run_id = r.id "
                "WHERE r.name > ? AND r.name >= ? AND r.name < ? ORDER BY r.name LIMIT ?",
                (after, prefix, f"{prefix}{access.LAST_CHARACTER}", limit),
            )
            return [RunVersion(*row) for row in rows]

    def heads(self, *, after_id: int = 0, limit: int = 1000) -> list[RunHead]:
        """See Snapshot.heads."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(_HEADS, {"after": after_id, "limit": limit})
            return [RunHead(*row) for row in rows]

    def head(self, run_id: int) -> RunHead | None:
        """See Snapshot.head."""
        with self._connection.mapped_errors():
            row = self._connection.execute(_HEAD + "WHERE h.run_id = ?", (run_id,)).fetchone()
            return RunHead(*row) if row else None

    def deleted_run_ids(self) -> list[tuple[int, str]]:
        """See Snapshot.deleted_run_ids."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                "SELECT run_id, name FROM deleted_runs WHERE run_id IN (SELECT run_id FROM generations)"
            )
            return [(run_id, name) for run_id, name in rows]

    def journal(self, run_id: int, *, after_pos: int, bytes_max: int) -> list[Block]:
        """See Snapshot.journal."""
        with self._connection.mapped_errors():
            return journal.read_journal(self._connection, run_id, after_pos=after_pos, bytes_max=bytes_max)

    def blocks(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        *,
        tag_id: int | None = None,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> Iterator[Block]:
        """See Snapshot.blocks."""
        place = run_id, counter_id, attempt
        with self._connection.mapped_errors():
            read = block_rows.read_attempt(
                self._connection, place, tag_id=tag_id, first_step=first_step, last_step=last_step
            )
        found = self._mapped(read)
        self._open.append(found)
        return found

    def axes(
        self, run_id: int, counter_id: int, attempt: int, *, first_step: int = 0, last_step: int = 2**63 - 1
    ) -> Iterator[tuple[Int64, Float64]]:
        """See Snapshot.axes."""
        place = run_id, counter_id, attempt
        with self._connection.mapped_errors():
            read = block_rows.read_attempt_axes(self._connection, place, first_step=first_step, last_step=last_step)
        found = self._mapped(read)
        self._open.append(found)
        return found

    def cells(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
        rows_max: int = 1,
        at: int | None = None,
    ) -> dict[int, Cells]:
        """See Snapshot.cells."""
        with self._connection.mapped_errors():
            return read_cells(
                self._connection, (run_id, counter_id, attempt), tag_ids, Range(first_step, last_step), rows_max, at
            )

    def points_at_most(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> dict[int, int]:
        """See Snapshot.points_at_most."""
        with self._connection.mapped_errors():
            return count_points(self._connection, (run_id, counter_id, attempt), tag_ids, Range(first_step, last_step))

    def blobs(self, run_id: int, keys: Sequence[float]) -> dict[float, Blob]:
        """See Snapshot.blobs."""
        with self._connection.mapped_errors():
            return blob_rows.read_blobs(self._connection, run_id, keys)

    def blob_sizes(self, run_id: int, keys: Sequence[float]) -> dict[float, int]:
        """See Snapshot.blob_sizes."""
        with self._connection.mapped_errors():
            return blob_rows.read_sizes(self._connection, run_id, keys)

    def blob_size_page(self, run_id: int, *, after: float | None, limit: int) -> dict[float, int]:
        """See Snapshot.blob_size_page."""
        with self._connection.mapped_errors():
            return blob_rows.read_size_page(self._connection, run_id, after=after, limit=limit)

    def blob_page(self, run_id: int, *, after: float | None, bytes_max: int) -> dict[float, Blob]:
        """See Snapshot.blob_page."""
        with self._connection.mapped_errors():
            return blob_rows.read_page(self._connection, run_id, after=after, bytes_max=bytes_max)

    def refused(self, run_id: int, *, limit: int = 100) -> list[KeptRefusal]:
        """See Snapshot.refused."""
        with self._connection.mapped_errors():
            return load_refused(self._connection, run_id, limit)

    def refused_count(self, run_id: int) -> int:
        """See Snapshot.refused_count."""
        with self._connection.mapped_errors():
            return count_refused(self._connection, run_id)

    def alerts(self, run_id: int, *, limit: int = 100) -> list[KeptAlert]:
        """See Snapshot.alerts."""
        with self._connection.mapped_errors():
            return load_alerts(self._connection, run_id, limit)

    def alert_count(self, run_id: int) -> AlertCount:
        """See Snapshot.alert_count."""
        with self._connection.mapped_errors():
            return count_alerts(self._connection, run_id)

    def heartbeats(self, *, limit: int, since: float = 0.0) -> tuple[dict[str, float], float]:
        """See Snapshot.heartbeats."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                "SELECT r.name, b.heard_at FROM heartbeats b JOIN runs r ON r.id = b.run_id "
                "WHERE b.heard_at >= ? ORDER BY b.heard_at DESC LIMIT ?",
                (since, limit),
            ).fetchall()
            until = self._connection.execute("SELECT until FROM listening").get
        return {str(name): float(at) for name, at in reversed(rows)}, until if isinstance(until, float) else 0.0

    def identity(self) -> str:
        """See Snapshot.identity."""
        with self._connection.mapped_errors():
            return access.load_identity(self._connection)

    def tokens(self, ids: Sequence[str] | None = None) -> list[Token]:
        """See AccessView.tokens."""
        with self._connection.mapped_errors():
            return access.load_tokens(self._connection, ids)

    def sessions(self, hashes: Sequence[bytes] | None = None) -> list[Session]:
        """See AccessView.sessions."""
        with self._connection.mapped_errors():
            return access.load_sessions(self._connection, hashes)

    def audit(
        self,
        *,
        prefix: str = "",
        run: str | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """See AccessView.audit."""
        with self._connection.mapped_errors():
            return access.load_audit(
                self._connection, prefix=prefix, run=run, action=action, before=before, limit=limit
            )

    def generations(self, run_id: int) -> list[Generation]:
        """See Snapshot.generations."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                f"SELECT {_GENERATION} FROM generations WHERE run_id = ? ORDER BY number",  # noqa: S608 - a constant
                (run_id,),
            )
            return [Generation(*row) for row in rows]

    def segments(self, run_id: int, generation: int) -> list[Segment]:
        """See Snapshot.segments."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                "SELECT number, first_pos, last_pos, nbytes, published, changed_at FROM segments "
                "WHERE run_id = ? AND generation = ? ORDER BY number",
                (run_id, generation),
            )
            return [
                Segment(run_id, generation, number, first, last, nbytes, bool(published), changed_at)
                for number, first, last, nbytes, published, changed_at in rows
            ]

    def mergeable(self, run_id: int, *, up_to_pos: int, min_blocks: int) -> list[tuple[int, int]]:
        """See Snapshot.mergeable."""
        with self._connection.mapped_errors():
            return journal.mergeable(self._connection, run_id, up_to_pos, min_blocks)

    def whole_batches(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        *,
        up_to_pos: int,
        rows_max: int,
        bytes_max: int = BYTES_PER_GROUP,
    ) -> list[Block]:
        """See Snapshot.whole_batches."""
        with self._connection.mapped_errors():
            return journal.read_whole_batches(
                self._connection,
                run_id,
                counter_id,
                attempt,
                up_to_pos=up_to_pos,
                rows_max=rows_max,
                bytes_max=bytes_max,
            )

    def growing_attempts(self, run_id: int, *, min_groups: int) -> list[tuple[int, int]]:
        """See Snapshot.growing_attempts."""
        with self._connection.mapped_errors():
            return block_rows.growing_attempts(self._connection, run_id, min_groups)

    def growing_groups(self, run_id: int, counter_id: int, attempt: int, *, limit: int) -> list[list[Group]]:
        """See Snapshot.growing_groups."""
        with self._connection.mapped_errors():
            return block_rows.growing_groups(self._connection, (run_id, counter_id, attempt), limit)

    def groups(
        self, run_id: int, counter_id: int, attempt: int, *, after_batch: int = 0, limit: int = 1000
    ) -> list[Group]:
        """See Snapshot.groups."""
        with self._connection.mapped_errors():
            return block_rows.read_groups_after(self._connection, (run_id, counter_id, attempt), after_batch, limit)

    def group_blocks(self, group: Group) -> list[Block]:
        """See Snapshot.group_blocks."""
        with self._connection.mapped_errors():
            return block_rows.read_group(self._connection, group)

    def close(self) -> None:
        """End whatever is still being read: an open statement would hold the view open."""
        for found in self._open:
            found.close()  # type: ignore[attr-defined]
        self._open.clear()

    def _mapped(self, found: Iterator[_T]) -> Iterator[_T]:
        with self._connection.mapped_errors():
            yield from found
