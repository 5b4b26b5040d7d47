"""The transaction of a store that others write to as well: it locks what it changes, and never waits for a lock.

READ COMMITTED: each statement sees what was committed before it began. So a run's state is read by a statement after
the one that locked the run: the locking one may still see the row as it was before the former holder committed.
"""

from collections.abc import Collection, Sequence

from tallyboard_server.principal import Session, Token
from tallyboard_server.store.postgres.connection import PostgresConnection
from tallyboard_server.store.protocol import RunHeldError, StoreError
from tallyboard_server.store.sql.cache import StateCache
from tallyboard_server.store.sql.transaction import SqlTransaction

_LOCK_RUNS = "SELECT id, name FROM runs WHERE name = ANY(?) ORDER BY name FOR UPDATE SKIP LOCKED"
_LOCK_NEW = "SELECT pg_try_advisory_xact_lock(hashtextextended(?, 0))"
_LOCK_ABSENT = (
    "SELECT name FROM unnest(CAST(? AS text[])) AS name "
    "WHERE pg_try_advisory_xact_lock(hashtextextended('run ' || name, 0))"
)


class PostgresTransaction(SqlTransaction):
    """The store's Transaction on PostgreSQL."""

    _connection: PostgresConnection

    def __init__(self, connection: PostgresConnection, cache: StateCache) -> None:
        super().__init__(connection, cache)
        self._locked: set[str] = set()
        self._held: set[str] = set()
        self._versions: dict[int, int] = {}
        self._revised: set[str] = set()

    def lock(self, names: Collection[str]) -> None:
        """Have these runs, or their names, for this transaction alone; `load` raises RunHeldError for those that
        another one has."""
        wanted = sorted(set(names) - self._locked - self._ids.keys())
        if not wanted:
            return
        with self._connection.mapped_errors():
            absent = self._lock_rows(wanted)
            if absent:
                won = [str(name) for (name,) in self._connection.execute(_LOCK_ABSENT, (absent,))]
                self._held.update(set(absent) - set(won))
                # Somebody may have made one of them after the look at it, and before its name was locked.
                self._ids.update(dict.fromkeys(self._lock_rows(won)))

    def _lock_rows(self, names: list[str]) -> list[str]:
        """Lock the rows of runs, and learn the versions of their states; returns the names that no run has."""
        if not names:
            return []
        found = {str(name): int(run_id) for run_id, name in self._connection.execute(_LOCK_RUNS, (names,))}
        self._ids.update(found)
        self._locked.update(found)
        self._held.difference_update(found)
        if found:
            ids = list(found.values())
            self._versions.update(
                self._connection.execute("SELECT run_id, version FROM heads WHERE run_id = ANY(?)", (ids,))
            )
        missing = [name for name in names if name not in found]
        if not missing:
            return []
        held = {
            str(name) for (name,) in self._connection.execute("SELECT name FROM runs WHERE name = ANY(?)", (missing,))
        }
        self._held.update(held)
        return [name for name in missing if name not in held]

    def name_of_uid(self, uid: str) -> str | None:
        """See Transaction.name_of_uid: a uid that no run has is locked, so that no other transaction makes one."""
        if (name := super().name_of_uid(uid)) is not None:
            return name
        self._lock_new(f"uid {uid}")
        return super().name_of_uid(uid)

    def next_run_id(self) -> int:
        """See Transaction.next_run_id."""
        with self._connection.mapped_errors():
            run_id = self._connection.execute("SELECT nextval('run_ids')").get
        if not isinstance(run_id, int):
            raise StoreError(f"the database gave {run_id!r} as the next run id")
        return run_id

    def save_token(self, token: Token) -> None:
        """See Transaction.save_token."""
        super().save_token(token)
        self._revise("access")

    def drop_token(self, token_id: str) -> None:
        """See Transaction.drop_token."""
        super().drop_token(token_id)
        self._revise("access")

    def save_session(self, session: Session) -> None:
        """See Transaction.save_session."""
        super().save_session(session)
        self._revise("access")

    def drop_sessions(self, hashes: Sequence[bytes]) -> None:
        """See Transaction.drop_sessions."""
        super().drop_sessions(hashes)
        self._revise("access")

    def drop_sessions_of(self, token_id: str) -> None:
        """See Transaction.drop_sessions_of."""
        super().drop_sessions_of(token_id)
        self._revise("access")

    def save_rules(self, project: str, rules: str | None) -> None:
        """See WatchChanges.save_rules."""
        super().save_rules(project, rules)
        self._revise("rules")

    def lock_alive(self, replica: str) -> bool:
        """Whether a replica counts as alive, and does so until this transaction has ended.

        It can't be buried until then; what it changes in its row (renewals, news) does not wait for this.
        """
        with self._connection.mapped_errors():
            found = self._connection.execute(
                "SELECT 1 FROM replicas WHERE id = ? AND valid_until > clock_timestamp() FOR KEY SHARE", (replica,)
            ).get
        return found is not None

    def _read_id(self, name: str) -> int | None:
        """The id of a run, which is locked then; or None, and then nobody else can make a run of that name."""
        if name not in self._held:
            self.lock((name,))
        if name in self._held:
            raise RunHeldError(f"run {name!r} is being changed by another replica; retry")
        return self._ids.get(name)

    def _name_of(self, run_id: int) -> str | None:
        name = super()._name_of(run_id)
        return name if name is not None and self._id(name) == run_id else None

    def _version(self, run_id: int) -> int | None:
        known = self._versions.get(run_id)
        return super()._version(run_id) if known is None else known

    def _run_to_purge(self) -> int | None:
        """One that no other replica purges at this moment."""
        found = self._connection.execute(
            "SELECT run_id FROM deleted_runs WHERE purged = 0 ORDER BY run_id LIMIT 1 FOR UPDATE SKIP LOCKED"
        ).get
        return found if isinstance(found, int) else None

    def _revise(self, name: str) -> None:
        """Have all replicas read something again that they keep in memory; last, because others wait for it."""
        self._revised.add(name)

    def flush(self) -> None:
        """See SqlTransaction.flush."""
        super().flush()
        if self._revised:
            with self._connection.mapped_errors():
                for name in sorted(self._revised):
                    self._connection.execute("UPDATE revisions SET number = number + 1 WHERE name = ?", (name,))

    def _lock_new(self, what: str) -> None:
        with self._connection.mapped_errors():
            if self._connection.execute(_LOCK_NEW, (what,)).get is not True:
                raise RunHeldError(f"{what!r} is being made by another replica; retry")
