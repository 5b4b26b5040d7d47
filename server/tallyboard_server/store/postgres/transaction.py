"""The transaction of a store that others write to as well: it locks what it changes, and never waits for a lock.

READ COMMITTED: each statement sees what was committed before it began. So a run's state is read by a statement after
the one that locked the run: the locking one may still see the row as it was before the former holder committed.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from psycopg.pq.abc import PGresult

from tallyboard_server.principal import Token
from tallyboard_server.store.postgres.binary import ARRAY_OIDS, array, as_int, as_text
from tallyboard_server.store.postgres.connection import PostgresConnection
from tallyboard_server.store.postgres.exchange import Statement
from tallyboard_server.store.protocol import RunHeldError, StoreError
from tallyboard_server.store.sql.cache import StateCache
from tallyboard_server.store.sql.transaction import SqlTransaction

NEAR_LIMIT: Final = 1_000
_VERSION_BITS: Final = 20
"""So far apart versions are at most; there is room for 10^12 of them."""
_LOCK_RUNS = b"SELECT id, name FROM runs WHERE name = ANY($1) ORDER BY name FOR UPDATE SKIP LOCKED"
_VERSIONS = b"SELECT r.id, r.name, h.version FROM runs AS r JOIN heads AS h ON h.run_id = r.id WHERE r.name = ANY($1)"
_LOCK_NEW = "SELECT pg_try_advisory_xact_lock(hashtextextended(?, 0))"
_LOCK_ABSENT = (
    "SELECT name FROM unnest(CAST(? AS text[])) AS name "
    "WHERE pg_try_advisory_xact_lock(hashtextextended('run ' || name, 0))"
)

_SAVE_HEARTBEATS = (
    "INSERT INTO heartbeats (run_id, heard_at) SELECT r.id, h.heard_at "
    "FROM unnest(CAST(? AS text[]), CAST(? AS double precision[])) AS h (name, heard_at) "
    "JOIN runs r ON r.name = h.name ORDER BY r.name "
    "ON CONFLICT (run_id) DO UPDATE SET heard_at = greatest(heartbeats.heard_at, excluded.heard_at)"
)


def run_locks(names: Sequence[str]) -> tuple[Statement, Statement]:
    """Lock the rows of runs that nobody else has, and then, in a statement that sees what those before them did, read
    the versions of the states of all that there are."""
    values, types = (array("text", names),), (ARRAY_OIDS["text"],)
    return Statement(_LOCK_RUNS, values, types), Statement(_VERSIONS, values, types)


class PostgresTransaction(SqlTransaction):
    """The store's Transaction on PostgreSQL."""

    _connection: PostgresConnection
    _unlocked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, connection: PostgresConnection, cache: StateCache) -> None:
        super().__init__(connection, cache)
        self._locked: set[str] = set()
        self._held: set[str] = set()
        self._versions: dict[int, int] = {}
        self._revised: set[str] = set()
        self._alone_with: set[str] = set()
        self._counted: set[str] = set()

    def lock(self, names: Collection[str]) -> None:
        """Have these runs, or their names, for this transaction alone; `load` raises RunHeldError for those that
        another one has."""
        wanted = sorted(set(names) - self._locked - self._ids.keys())
        if wanted:
            with self._connection.mapped_errors():
                answers = self._connection.exchange(run_locks(wanted))
            self.locked(wanted, answers)

    def locked(self, names: Sequence[str], answers: Sequence[PGresult]) -> None:
        """Take note of what `run_locks` was answered, and lock the names that no run has."""
        absent = self._learn(names, answers)
        if absent:
            with self._connection.mapped_errors():
                won = [str(name) for (name,) in self._connection.execute(_LOCK_ABSENT, (absent,))]
                self._held.update(set(absent) - set(won))
                if won:  # somebody may have made one of them after the look at it, and before its name was locked
                    self._ids.update(dict.fromkeys(self._learn(won, self._connection.exchange(run_locks(won)))))

    def _learn(self, names: Sequence[str], answers: Sequence[PGresult]) -> list[str]:
        """Ids and versions of the runs that were locked, and which are held by others; returns the names that no run
        has."""
        locks, versions = answers
        locked = {as_text(locks.get_value(row, 1)): as_int(locks.get_value(row, 0)) for row in range(locks.ntuples)}
        self._ids.update(locked)
        self._locked.update(locked)
        self._held.difference_update(locked)
        for row in range(versions.ntuples):
            run_id, name = as_int(versions.get_value(row, 0)), as_text(versions.get_value(row, 1))
            if locked.get(name) == run_id:
                self._versions[run_id] = as_int(versions.get_value(row, 2))
            else:
                self._held.add(name)
        return [name for name in names if name not in locked and name not in self._held]

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

    def save_heartbeats(self, heard: Mapping[str, float], until: float) -> None:
        """See Transaction.save_heartbeats: one statement for all, which locks rows in the order of names."""
        if heard:
            with self._connection.mapped_errors():
                self._connection.execute(_SAVE_HEARTBEATS, (list(heard), list(heard.values())))
        super().save_heartbeats({}, until)

    def lock_tokens(self) -> list[Token]:
        """See AccessChanges.lock_tokens."""
        self._lock_revision("access")
        return super().lock_tokens()

    def touch_tokens(self, used: Mapping[str, float]) -> None:
        """See AccessChanges.touch_tokens: others need not read it at once."""
        self._lock_revision("access")
        super().touch_tokens(used)

    def save_token(self, token: Token) -> None:
        """See AccessChanges.save_token."""
        self._revise("access")
        super().save_token(token)

    def drop_token(self, token_id: str) -> None:
        """See AccessChanges.drop_token."""
        self._revise("access")
        super().drop_token(token_id)

    def drop_sessions(self, hashes: Sequence[bytes]) -> bool:
        """See AccessChanges.drop_sessions. (Of one that begins nobody has to hear: it is looked up where it comes.)"""
        self._lock_revision("access")
        dropped = super().drop_sessions(hashes)
        if dropped:
            self._revise("access")
        return dropped

    def drop_sessions_of(self, token_id: str) -> None:
        """See AccessChanges.drop_sessions_of."""
        self._revise("access")
        super().drop_sessions_of(token_id)

    def lock_rules(self) -> Mapping[str, str]:
        """See WatchChanges.lock_rules."""
        self._lock_revision("rules")
        return super().lock_rules()

    def save_rules(self, project: str, rules: str | None) -> None:
        """See WatchChanges.save_rules."""
        self._revise("rules")
        super().save_rules(project, rules)

    def runs_at_most(self, prefix: str, limit: int) -> int:
        """See Transaction.runs_at_most. Near the limit one transaction at a time counts, and then makes runs; far from
        it nobody waits, and fewer than NEAR_LIMIT runs are being made at once."""
        found = super().runs_at_most(prefix, limit)
        if found > limit - NEAR_LIMIT and prefix not in self._counted:
            self._lock_new(f"another run of {prefix}")
            self._counted.add(prefix)
            found = super().runs_at_most(prefix, limit)
        return found

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

    def _next_version(self, version: int) -> int:
        """Not only the next number: a standby that was behind may take over, and then another state comes where this
        service has one in memory that is lost."""
        return version + 1 + random.getrandbits(_VERSION_BITS)

    def _version(self, run_id: int) -> int | None:
        known = self._versions.get(run_id)
        return super()._version(run_id) if known is None else known

    def _run_to_purge(self) -> int | None:
        """One that no other replica purges at this moment."""
        found = self._connection.execute(
            "SELECT run_id FROM deleted_runs WHERE purged = 0 ORDER BY run_id LIMIT 1 FOR UPDATE SKIP LOCKED"
        ).get
        return found if isinstance(found, int) else None

    def _lock_revision(self, name: str) -> None:
        """Be the only one who changes something that all replicas keep in memory; before any row of it is touched, so
        that those who do wait for each other here only, and not for rows in an order of their own."""
        if name not in self._alone_with:
            with self._connection.mapped_errors():
                self._connection.execute("SELECT 1 FROM revisions WHERE name = ? FOR UPDATE", (name,))
            self._alone_with.add(name)

    def _revise(self, name: str) -> None:
        """Change it, and have all replicas read it again."""
        self._lock_revision(name)
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
