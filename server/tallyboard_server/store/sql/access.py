"""Rows of tokens, of browsers that have logged in, and of the audit."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallyboard_server.principal import AuditEntry, Session, Token
from tallyboard_server.store.access import AUDIT_ENTRIES_MAX
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.tables import TABLES

LAST_CHARACTER: Final = "\U0010ffff"
"""Sorts behind whatever a name goes on with."""
_AMONG_MAX: Final = 500
_TRIM_EVERY: Final = 1_000
"""The audit is cut to its bound every so many entries."""


class AccessRows:
    """The part of a SqlTransaction."""

    _connection: Connection

    def lock_tokens(self) -> list[Token]:
        """See AccessChanges.lock_tokens."""
        with self._connection.mapped_errors():
            return load_tokens(self._connection)

    def touch_tokens(self, used: Mapping[str, float]) -> None:
        """See AccessChanges.touch_tokens; in the order of ids, for those who lock rows."""
        with self._connection.mapped_errors():
            self._connection.executemany(
                "UPDATE tokens SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)",
                ((at, token_id, at) for token_id, at in sorted(used.items())),
            )

    def save_token(self, token: Token) -> None:
        """See AccessChanges.save_token."""
        with self._connection.mapped_errors():
            self._connection.put(
                TABLES["tokens"],
                [
                    (
                        token.id,
                        token.name,
                        token.scope,
                        token.project,
                        token.hash,
                        token.created_at,
                        token.created_by,
                        token.expires_at,
                        token.revoked_at,
                        token.last_used_at,
                        token.rate,
                    )
                ],
            )

    def drop_token(self, token_id: str) -> None:
        """See AccessChanges.drop_token."""
        with self._connection.mapped_errors():
            self._connection.execute("DELETE FROM tokens WHERE id = ?", (token_id,))
        self.drop_sessions_of(token_id)

    def save_session(self, session: Session) -> None:
        """See AccessChanges.save_session."""
        with self._connection.mapped_errors():
            self._connection.put(TABLES["sessions"], [(session.hash, session.token, session.until)])

    def drop_sessions(self, hashes: Sequence[bytes]) -> bool:
        """See AccessChanges.drop_sessions."""
        dropped = False
        with self._connection.mapped_errors():
            for begin in range(0, len(hashes), _AMONG_MAX):
                condition, values = _among("hash", hashes[begin : begin + _AMONG_MAX])
                self._connection.execute(f"DELETE FROM sessions {condition}", values)  # noqa: S608 - constants
                dropped = self._connection.changes() > 0 or dropped
        return dropped

    def drop_sessions_of(self, token_id: str) -> None:
        """See AccessChanges.drop_sessions_of."""
        with self._connection.mapped_errors():
            self._connection.execute("DELETE FROM sessions WHERE token = ?", (token_id,))

    def save_login_code(self, hashed: bytes, token_id: str, until: float) -> None:
        """See AccessChanges.save_login_code."""
        with self._connection.mapped_errors():
            self._connection.execute("DELETE FROM login_codes")
            self._connection.put(TABLES["login_codes"], [(hashed, token_id, until)])

    def take_login_code(self, hashed: bytes) -> tuple[str, float] | None:
        """See AccessChanges.take_login_code."""
        with self._connection.mapped_errors():
            found = self._connection.execute(
                "DELETE FROM login_codes WHERE hash = ? RETURNING token, until", (hashed,)
            ).fetchone()
        return None if found is None else (str(found[0]), float(found[1]))

    def append_audit(self, entry: AuditEntry) -> None:
        """See AccessChanges.append_audit; now and then the oldest beyond the bound are forgotten."""
        with self._connection.mapped_errors():
            newest: int = self._connection.execute(
                "INSERT INTO audit (at, actor, token, address, action, run, detail) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "RETURNING id",
                (entry.at, entry.actor, entry.token, entry.address, entry.action, entry.run, entry.detail),
            ).get
            if newest % _TRIM_EVERY == 0:
                self._connection.execute("DELETE FROM audit WHERE id <= ?", (newest - AUDIT_ENTRIES_MAX,))


def load_identity(connection: Connection) -> str:
    """What tells this store from any other."""
    return str(connection.execute("SELECT id FROM identity").get)


def load_tokens(connection: Connection, ids: Sequence[str] | None = None) -> list[Token]:
    """All tokens, or those with these ids, oldest first."""
    condition, values = _among("id", ids)
    rows = connection.execute(
        "SELECT id, name, scope, project, hash, created_at, created_by, expires_at, revoked_at, last_used_at, rate "  # noqa: S608 - a condition from constants
        f"FROM tokens {condition}ORDER BY created_at, id",
        values,
    )
    return [Token(*row) for row in rows]


def load_sessions(connection: Connection, hashes: Sequence[bytes] | None = None) -> list[Session]:
    """All sessions, or those with these hashes; those that end first before the others."""
    condition, values = _among("hash", hashes)
    rows = connection.execute(f"SELECT hash, token, until FROM sessions {condition}ORDER BY until, hash", values)  # noqa: S608 - a condition from constants
    return [Session(*row) for row in rows]


def _among(column: str, wanted: Sequence[Any] | None) -> tuple[str, Sequence[Any]]:
    """The condition that a column is one of these, for a few thousand at most; None: no condition."""
    if wanted is None:
        return "", ()
    return f"WHERE {column} IN ({', '.join('?' * len(wanted)) or 'NULL'}) ", wanted


def load_audit(
    connection: Connection, *, prefix: str, run: str | None, action: str | None, before: int | None, limit: int
) -> list[AuditEntry]:
    """Entries, newest first; see Snapshot.audit."""
    conditions: list[str] = []
    values: list[Any] = []
    if before is not None:
        conditions.append("id < ?")
        values.append(before)
    if run is not None:
        conditions.append("run = ?")
        values.append(run)
    if prefix:
        conditions.append("run >= ? AND run < ?")
        values += [prefix, prefix + LAST_CHARACTER]
    if action is not None:
        conditions.append("action = ?")
        values.append(action)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = connection.execute(
        "SELECT id, at, actor, token, address, action, run, detail "  # noqa: S608 - conditions from constants
        f"FROM audit {where}ORDER BY id DESC LIMIT ?",
        (*values, limit),
    )
    return [AuditEntry(*row) for row in rows]
