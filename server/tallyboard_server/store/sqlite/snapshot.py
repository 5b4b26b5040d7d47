"""A consistent view of the database for reading."""

from collections.abc import Iterator, Sequence
from typing import Final

import apsw
import numpy as np

from tallyboard_server.model import Block, KeptRefusal, RunState
from tallyboard_server.store import envelope
from tallyboard_server.store.envelope import Cells
from tallyboard_server.store.protocol import Generation, RunHead, RunVersion
from tallyboard_server.store.sqlite import blocks as block_rows
from tallyboard_server.store.sqlite.cache import StateCache
from tallyboard_server.store.sqlite.connection import mapped_errors
from tallyboard_server.store.sqlite.state import load_refused, load_state

_HEAD = "SELECT r.id, r.name, h.pos, h.epoch FROM heads h JOIN runs r ON r.id = h.run_id "


LAST_CHARACTER: Final = "\U0010ffff"
"""Sorts behind whatever a name goes on with (in UTF-8, which is how SQLite compares)."""


class SqliteSnapshot:
    """The store's Snapshot on one read transaction of one connection."""

    def __init__(self, connection: apsw.Connection, cache: StateCache) -> None:
        self._connection = connection
        self._cache = cache
        self._open: list[Iterator[Block]] = []

    def load(self, name: str) -> RunState | None:
        """See Snapshot.load."""
        with mapped_errors():
            run_id = self._connection.execute("SELECT id FROM runs WHERE name = ?", (name,)).get
        return self.load_by_id(run_id) if isinstance(run_id, int) else None

    def load_by_id(self, run_id: int) -> RunState | None:
        """See Snapshot.load_by_id."""
        with mapped_errors():
            version = self._connection.execute("SELECT version FROM heads WHERE run_id = ?", (run_id,)).get
            if not isinstance(version, int):
                return None
            state = self._cache.get(run_id, version)
            if state is None and (state := load_state(self._connection, run_id)) is not None:
                self._cache.put(run_id, version, state)
            return state

    def is_deleted(self, name: str) -> bool:
        """See Snapshot.is_deleted."""
        with mapped_errors():
            return self._connection.execute("SELECT 1 FROM tombstones WHERE name = ?", (name,)).get is not None

    def run_names(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
        """See Snapshot.run_names."""
        with mapped_errors():
            rows = self._connection.execute(
                "SELECT name FROM runs WHERE name > ? AND name >= ? AND name < ? ORDER BY name LIMIT ?",
                (after, prefix, f"{prefix}{LAST_CHARACTER}", limit),
            )
            return [name for (name,) in rows]

    def run_versions(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[RunVersion]:
        """See Snapshot.run_versions."""
        with mapped_errors():
            rows = self._connection.execute(
                "SELECT r.id, r.name, h.version FROM runs r JOIN heads h ON h.run_id = r.id "
                "WHERE r.name > ? AND r.name >= ? AND r.name < ? ORDER BY r.name LIMIT ?",
                (after, prefix, f"{prefix}{LAST_CHARACTER}", limit),
            )
            return [RunVersion(*row) for row in rows]

    def heads(self, *, after_id: int = 0, limit: int = 1000) -> list[RunHead]:
        """See Snapshot.heads."""
        with mapped_errors():
            rows = self._connection.execute(_HEAD + "WHERE h.run_id > ? ORDER BY h.run_id LIMIT ?", (after_id, limit))
            return [RunHead(*row) for row in rows]

    def head(self, run_id: int) -> RunHead | None:
        """See Snapshot.head."""
        with mapped_errors():
            row = self._connection.execute(_HEAD + "WHERE h.run_id = ?", (run_id,)).fetchone()
            return RunHead(*row) if row else None

    def deleted_run_ids(self) -> list[tuple[int, str]]:
        """See Snapshot.deleted_run_ids."""
        with mapped_errors():
            rows = self._connection.execute(
                "SELECT run_id, name FROM deleted_runs WHERE run_id IN (SELECT run_id FROM generations)"
            )
            return [(run_id, name) for run_id, name in rows]

    def journal(self, run_id: int, *, after_pos: int, bytes_max: int) -> list[Block]:
        """See Snapshot.journal."""
        with mapped_errors():
            return block_rows.read_journal(self._connection, run_id, after_pos=after_pos, bytes_max=bytes_max)

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
        found = self._mapped(
            block_rows.read_attempt(
                self._connection,
                run_id,
                counter_id,
                attempt,
                tag_id=tag_id,
                first_step=first_step,
                last_step=last_step,
            )
        )
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
        found: dict[int, Cells] = {}
        for tag_id in tag_ids:
            points = [
                envelope.of_points(b.steps, b.wall_times, b.values[:, 0], None if at is None else b.at.get(at))
                for block in self.blocks(
                    run_id, counter_id, attempt, tag_id=tag_id, first_step=first_step, last_step=last_step
                )
                if len((b := block.between(first_step, last_step)).steps)
            ]
            if points:
                cells = envelope.joined(points)
                cells = cells.take(np.argsort(cells.first.steps, kind="stable"))
                found[tag_id] = envelope.grouped(cells, np.arange(0, len(cells), rows_max))
        return found

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
        found = self.cells(run_id, counter_id, attempt, tag_ids, first_step=first_step, last_step=last_step)
        return {tag_id: len(cells) for tag_id, cells in found.items()}

    def refused(self, run_id: int, *, limit: int = 100) -> list[KeptRefusal]:
        """See Snapshot.refused."""
        with mapped_errors():
            return load_refused(self._connection, run_id, limit)

    def heartbeats(self, *, limit: int) -> tuple[dict[str, float], float]:
        """See Snapshot.heartbeats."""
        with mapped_errors():
            rows = self._connection.execute(
                "SELECT r.name, b.heard_at FROM heartbeats b JOIN runs r ON r.id = b.run_id "
                "ORDER BY b.heard_at DESC LIMIT ?",
                (limit,),
            ).fetchall()
            until = self._connection.execute("SELECT until FROM listening").get
        return {str(name): float(at) for name, at in reversed(rows)}, until if isinstance(until, float) else 0.0

    def generations(self, run_id: int) -> list[Generation]:
        """See Snapshot.generations."""
        with mapped_errors():
            rows = self._connection.execute("SELECT * FROM generations WHERE run_id = ? ORDER BY number", (run_id,))
            return [Generation(*row) for row in rows]

    def mergeable(self, run_id: int, *, up_to_pos: int, min_blocks: int) -> list[tuple[int, int]]:
        """See Snapshot.mergeable."""
        with mapped_errors():
            return block_rows.mergeable(self._connection, run_id, up_to_pos, min_blocks)

    def whole_batches(
        self, run_id: int, counter_id: int, attempt: int, *, up_to_pos: int, rows_max: int
    ) -> list[Block]:
        """See Snapshot.whole_batches."""
        with mapped_errors():
            return block_rows.read_whole_batches(
                self._connection, run_id, counter_id, attempt, up_to_pos=up_to_pos, rows_max=rows_max
            )

    def close(self) -> None:
        """End whatever is still being read: an open statement would hold the view open."""
        for found in self._open:
            found.close()  # type: ignore[attr-defined]
        self._open.clear()

    @staticmethod
    def _mapped(found: Iterator[Block]) -> Iterator[Block]:
        with mapped_errors():
            yield from found
