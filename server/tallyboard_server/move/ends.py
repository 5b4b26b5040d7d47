"""The two ends of a move: a data directory and a PostgreSQL database, each held so that no service writes to it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw
import psycopg
from psycopg import sql

from tallyboard.wire.limits import MIB
from tallyboard_server.store.postgres.connection import PostgresConnection
from tallyboard_server.store.postgres.connection import mapped_errors as mapped_postgres_errors
from tallyboard_server.store.postgres.migrate import migrate as migrate_postgres
from tallyboard_server.store.postgres.migrate import migrations as postgres_migrations
from tallyboard_server.store.postgres.migrate import schema_version as postgres_version
from tallyboard_server.store.postgres.store import connection_info
from tallyboard_server.store.protocol import StoreBusyError, StoreError
from tallyboard_server.store.sql.cache import StateCache
from tallyboard_server.store.sql.snapshot import SqlSnapshot
from tallyboard_server.store.sqlite.connection import SqliteConnection, open_reader, open_writer
from tallyboard_server.store.sqlite.connection import mapped_errors as mapped_sqlite_errors
from tallyboard_server.store.sqlite.directory import DATABASE_NAME, DataDirectory
from tallyboard_server.store.sqlite.migrate import migrate as migrate_sqlite
from tallyboard_server.store.sqlite.migrate import migrations as sqlite_migrations
from tallyboard_server.store.sqlite.migrate import schema_version as sqlite_version

CHECKPOINT_EVERY_BYTES: Final = 32 * MIB
_LOCK: Final = 0x7A11_B0A2E
"""The key of the advisory lock that a move holds on its PostgreSQL, so that there is one at a time."""
_NUMBERED: Final = ("audit", "notices")
"""Tables whose ids the engine gives; those of runs come from a sequence of their own."""

Sequences = Mapping[str, int]
"""The next id of runs, and of each table of _NUMBERED."""


class SqliteEnd:
    """A data directory that this process owns. `target`: it is made if it is absent, and written to."""

    can_hold_nul: Final = True

    def __init__(self, path: Path, *, target: bool) -> None:
        """Raises StoreError if it can't be had, or a source if it is none or of another schema."""
        self.name = f"sqlite:{path}"
        if not target and not (path / DATABASE_NAME).is_file():
            raise StoreError(f"{path} is no data directory of Tallyboard")
        self._cache = StateCache()
        self._directory = DataDirectory(path)
        try:
            with mapped_sqlite_errors():
                self.connection: SqliteConnection = (open_writer if target else open_reader)(self._directory.database)
                self._written = 0
                self.connection.set_wal_hook(self._on_log_grown)
                version = sqlite_version(self.connection)
                is_new = target and (not version or self.connection.execute("SELECT 1 FROM runs LIMIT 1").get is None)
                _check_version(self.name, version, len(sqlite_migrations()), is_new=is_new)
                if target:
                    migrate_sqlite(self.connection)
        except BaseException:
            self._directory.release()
            raise

    def begin(self) -> None:
        """Begin a transaction; what is read in it is of one moment."""
        self.connection.execute("BEGIN")

    def commit(self) -> None:
        """Make durable what was written since `begin`."""
        self.connection.execute("COMMIT")
        if self._written >= CHECKPOINT_EVERY_BYTES:
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._written = 0

    def roll_back(self) -> None:
        """End a transaction without a trace, if there is one."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def check_unused(self) -> None:
        """Raise StoreBusyError if a service uses it: none can, its lock is ours."""

    def has_table(self, name: str) -> bool:
        """Whether there is a table of that name."""
        found = self.connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,)).get
        return found is not None

    def sequences(self) -> Sequences:
        """Which ids come next."""
        given: dict[str, int] = dict(self.connection.execute("SELECT name, seq FROM sqlite_sequence"))
        runs: int = self.connection.execute("SELECT next_run_id FROM sequence").get
        return {"runs": runs} | {table: given.get(table, 0) + 1 for table in _NUMBERED}

    def set_sequences(self, sequences: Sequences) -> None:
        """Have ids go on from there."""
        self.connection.execute("UPDATE sequence SET next_run_id = ?", (sequences["runs"],))
        for table in _NUMBERED:
            self.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            self.connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, sequences[table] - 1))

    def settle(self) -> None:
        """Once all rows are there: what makes reading them quick."""
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        """See protocol.Readable."""
        with _snapshot(self, self._cache) as view:
            yield view

    def close(self) -> None:
        """Let go of it."""
        self.connection.close()
        self._directory.release()

    def _on_log_grown(self, connection: apsw.Connection, _name: str, pages: int) -> int:
        self._written = pages * connection.pragma("page_size")
        return apsw.SQLITE_OK


class PostgresEnd:
    """A database that no service uses, on a session of its own. `target`: its schema is made if it has none."""

    can_hold_nul: Final = False

    def __init__(self, url: str, name: str, *, target: bool) -> None:
        """name: of the database, for people. Raises StoreError if it can't be had, or is of another schema."""
        self.name = name
        self._cache = StateCache()
        with mapped_postgres_errors():
            self._raw: psycopg.Connection[Any] = psycopg.connect(
                connection_info(url, application_name="tallyboard migrate"), autocommit=True, prepare_threshold=None
            )
        try:
            with mapped_postgres_errors():
                self._open(target=target)
        except BaseException:
            self._raw.close()
            raise
        self.connection = PostgresConnection(self._raw)

    def begin(self) -> None:
        """Begin a transaction; what is read in it is of one moment."""
        self._raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")

    def commit(self) -> None:
        """Make durable what was written since `begin`."""
        self.connection.commit()

    def roll_back(self) -> None:
        """End a transaction without a trace, if there is one."""
        if not self._raw.closed and self.connection.in_transaction:
            self._raw.execute("ROLLBACK")
            self.connection = PostgresConnection(self._raw)  # rows may have waited to be sent with the next statement

    def check_unused(self) -> None:
        """Raise StoreBusyError if a service uses it."""
        if not self.has_table("replicas"):
            return
        alive = self._raw.execute("SELECT count(*) FROM replicas WHERE valid_until > clock_timestamp()").fetchone()
        if alive is not None and alive[0]:
            raise StoreBusyError(f"{self.name} is in use by {alive[0]} running service(s); stop them first")

    def has_table(self, name: str) -> bool:
        """Whether there is a table of that name."""
        return self._raw.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,)

    def sequences(self) -> Sequences:
        """Which ids come next."""
        return {table: self._next(sequence) for table, sequence in self._sequence_names().items()}

    def set_sequences(self, sequences: Sequences) -> None:
        """Have ids go on from there."""
        for table, sequence in self._sequence_names().items():
            self._raw.execute("SELECT setval(CAST(%s AS regclass), %s, false)", (sequence, sequences[table]))

    def settle(self) -> None:
        """Once all rows are there: what makes reading them quick."""
        self._raw.execute("ANALYZE")

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        """See protocol.Readable."""
        with _snapshot(self, self._cache) as view:
            yield view

    def close(self) -> None:
        """Let go of it."""
        self._raw.close()

    def _open(self, *, target: bool) -> None:
        if self._raw.execute("SELECT pg_backend_pid()").fetchone() != (self._raw.info.backend_pid,):
            raise StoreError(
                f"{self.name} is reached through a proxy that pools connections, in one of which the lock of this move "
                "would stay; give the address of PostgreSQL itself"
            )
        self._raw.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        if self._raw.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
            raise StoreBusyError(f"another `tallyboard migrate` works on {self.name}; wait for its end")
        version = postgres_version(self._raw) if self.has_table("schema_version") else 0
        if not (target or version):
            raise StoreError(f"{self.name} holds nothing of Tallyboard")
        is_new = target and (not version or self._raw.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is None)
        _check_version(self.name, version, len(postgres_migrations()), is_new=is_new)
        if target:
            migrate_postgres(self._raw)

    def _sequence_names(self) -> dict[str, str]:
        found = {"runs": "run_ids"}
        for table in _NUMBERED:
            row = self._raw.execute("SELECT pg_get_serial_sequence(%s, 'id')", (table,)).fetchone()
            if row is None or row[0] is None:
                raise StoreError(f"{self.name}: {table} has no sequence; the store is damaged")
            found[table] = str(row[0])
        return found

    def _next(self, sequence: str) -> int:
        name = sql.Identifier(*sequence.split("."))
        row = self._raw.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(name)).fetchone()
        if row is None:
            raise StoreError(f"{self.name}: the sequence {sequence} is empty; the store is damaged")
        return int(row[0]) + bool(row[1])


End = SqliteEnd | PostgresEnd


@dataclass(slots=True, frozen=True)
class Ends:
    """Where a move comes from and where it goes."""

    source: End
    target: End

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the source as it is at this moment; errors of either engine become the store's own."""
        with self.source.connection.mapped_errors(), self.target.connection.mapped_errors(), ExitStack() as stack:
            self.source.begin()
            stack.callback(self.source.roll_back)
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction of the target."""
        self.target.begin()
        try:
            yield
            self.target.commit()
        finally:
            self.target.roll_back()


@contextmanager
def _snapshot(end: End, cache: StateCache) -> Iterator[SqlSnapshot]:
    end.begin()
    view = SqlSnapshot(end.connection, cache)
    try:
        yield view
    finally:
        view.close()
        end.roll_back()


def _check_version(name: str, version: int, newest: int, *, is_new: bool) -> None:
    """is_new: without a run; whoever made its schema may have been stopped on the way."""
    if version == newest or (is_new and version < newest):
        return
    if version > newest:
        raise StoreError(f"{name} was written by a newer Tallyboard (schema {version}, not {newest}); upgrade")
    raise StoreError(
        f"{name} has schema {version}, and this Tallyboard {newest}: let `tallyboard serve` of this version start on "
        "it once, which brings it up, and stop it again"
    )
